import type { Broker } from '../../core/broker/broker.ts';
import type { BundleRecord } from '../../core/bundle/manifest.ts';
import type { Api, ApiOperation } from '../../core/openapi/api.ts';
import type { Store } from '../../core/store/store.ts';
import { StoreKey, type BundleState, type Epoch, type RevisionState, type Snapshot } from '../../core/wire/control.ts';
import { callQueue, stateExchange } from '../../core/wire/topology.ts';

/** A bundle as a test's document describes it. */
export interface TestBundle {
  readonly state: BundleState;
  readonly record: BundleRecord;
}

export interface TestBundleOptions {
  readonly name?: string;
  readonly revision?: string;
  readonly host?: string;
  readonly basePath?: string;
  readonly operations: readonly (Pick<ApiOperation, 'operationId' | 'method' | 'path'> & Partial<ApiOperation>)[];
  readonly definitions?: Api['definitions'];
  readonly state?: Partial<RevisionState>;
  readonly weights?: BundleState['weights'];
}

/** A bundle that Tron might have made live, with one revision that one runner holds ready. */
export function testBundle(options: TestBundleOptions): TestBundle {
  const { name = 'orders', revision = 'aaaaaaaaaaaa', host, basePath = '' } = options;
  const digest = revision.padEnd(64, '0');
  const where = { ...(host === undefined ? {} : { host }), basePath };
  return {
    record: {
      digest,
      revision,
      manifest: {
        name,
        runtime: 'js',
        entry: 'index.ts',
        isolation: 'process',
        memoryMb: 128,
        concurrency: 100,
        workers: { min: 1, max: 1 },
        config: {},
        services: {},
        idleTimeoutS: 30,
        state: 'kept',
        fetchAllow: [],
        secrets: [],
        logLevel: 'debug',
        stackTraces: true,
      },
      api: {
        title: name,
        version: '1',
        ...where,
        dialect: '2020-12',
        definitions: options.definitions ?? {},
        operations: options.operations.map(completeOperation),
      },
      archiveBytes: 0,
      chunks: 0,
      createdAt: 0,
    },
    state: {
      name,
      ...where,
      weights: options.weights ?? { [revision]: 1 },
      eventQueue: `ev.${name}`,
      revisions: [
        {
          revision,
          digest,
          queue: callQueue(name, revision).name,
          batchMax: 25,
          runners: ['r1'],
          ready: 1,
          phase: 'serving',
          ...options.state,
        },
      ],
    },
  };
}

function completeOperation(operation: TestBundleOptions['operations'][number]): ApiOperation {
  return {
    handler: operation.operationId,
    timeoutMs: 5_000,
    mayRerun: operation.method !== 'POST',
    validateResponses: false,
    http: true,
    parameters: [],
    responses: {},
    ...operation,
  };
}

export function snapshotOf(epoch: Epoch, ...bundles: readonly TestBundle[]): Snapshot {
  return { v: 1, epoch, sentAt: Date.now(), leader: 't1', bundles: bundles.map((bundle) => bundle.state) };
}

/** Stores the records of these bundles and the snapshot, as Tron does before a frontend starts. */
export async function storeSnapshot(
  store: Store,
  snapshot: Snapshot,
  ...bundles: readonly TestBundle[]
): Promise<void> {
  for (const { record } of bundles) await store.set(StoreKey.record(record.digest), JSON.stringify(record));
  await store.set(StoreKey.snapshot, JSON.stringify(snapshot));
}

/** Sends a snapshot to every frontend there is. */
export async function sendSnapshot(broker: Broker, snapshot: Snapshot): Promise<void> {
  await broker.declare({ exchanges: [stateExchange] });
  await broker.publish({
    exchange: stateExchange.name,
    routingKey: '',
    body: Buffer.from(JSON.stringify(snapshot)),
    properties: { type: 'snapshot' },
  });
}
