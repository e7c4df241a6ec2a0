import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Broker, OutgoingMessage } from '../../../core/broker/broker.ts';
import { RpcTarget, type RpcFailure } from '../../../core/broker/batch.ts';
import { openMemoryBroker, type MemoryBroker } from '../../../core/broker/memory.ts';
import { openRpc, type Rpc } from '../../../core/broker/rpc.ts';
import { packArchive } from '../../../core/bundle/archive.ts';
import type { BundleRecord, Manifest } from '../../../core/bundle/manifest.ts';
import { createRepository } from '../../../core/bundle/repository.ts';
import { readConfig, type Config } from '../../../core/config.ts';
import { newId, parseId } from '../../../core/id.ts';
import { ServiceStack } from '../../../core/lifecycle.ts';
import { createLog, type Log } from '../../../core/log.ts';
import type { ApiOperation } from '../../../core/openapi/api.ts';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import type { Store } from '../../../core/store/store.ts';
import {
  StoreKey,
  type BundleState,
  type Epoch,
  type LogLine,
  type RunnerReport,
  type Snapshot,
} from '../../../core/wire/control.ts';
import {
  CallFlag,
  type CallMeta,
  type FailedReply,
  ReplyFlag,
  type ReplyMeta,
  type ReplyRecord,
} from '../../../core/wire/envelope.ts';
import {
  callQueue,
  listenerQueue,
  listenerTopology,
  logExchange,
  replyQueue,
  REPORT_QUEUE,
  reportTopology,
  stateExchange,
} from '../../../core/wire/topology.ts';
import type { IsolateKind } from '../../../runner/isolate/isolate.ts';
import { openRunner, type Runner } from '../../../runner/main.ts';
import { until } from '../../helpers/until.ts';

export const silent: Log = createLog({ level: 'silent', role: 'test' });

export interface TestBundle {
  readonly name: string;
  readonly record: BundleRecord;
  readonly queue: string;
  state(runners: readonly string[], weight?: number): BundleState;
}

export type TestOperation = Pick<ApiOperation, 'operationId'> & Partial<ApiOperation>;

/** Packs and stores a bundle; its code is `source`, or nothing where a stub isolate runs it. */
export async function storeBundle(
  store: Store,
  options: {
    readonly name?: string;
    readonly operations: readonly TestOperation[];
    readonly manifest?: Partial<Manifest>;
    readonly source?: string;
    readonly sourceMap?: string;
  },
): Promise<TestBundle> {
  const { name = 'shop', source = `// ${newId()}`, sourceMap } = options;
  const { archive, digest, revision } = await packArchive(
    new Map([
      ['bundle.js', Buffer.from(source)],
      ['funcatron.json', Buffer.from('{}')],
      ...(sourceMap === undefined ? [] : [['bundle.js.map', Buffer.from(sourceMap)] as const]),
    ]),
  );
  const record = await createRepository(store).putArchive(
    {
      digest,
      revision,
      createdAt: 0,
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
        ...options.manifest,
      },
      api: {
        title: name,
        version: '1',
        basePath: '',
        dialect: '2020-12',
        definitions: {},
        operations: options.operations.map((operation) => ({
          method: 'GET',
          path: `/${operation.operationId}`,
          handler: operation.operationId,
          timeoutMs: 5_000,
          mayRerun: (operation.method ?? 'GET') !== 'POST',
          validateResponses: false,
          http: true,
          parameters: [],
          responses: {},
          ...operation,
        })),
      },
    },
    archive,
  );
  const queue = callQueue(name, revision).name;
  return {
    name,
    record,
    queue,
    state: (runners, weight = 1) => ({
      name,
      basePath: '',
      weights: { [revision]: weight },
      eventQueue: `ev.${name}`,
      revisions: [{ revision, digest, queue, batchMax: 25, runners, ready: 1, phase: 'serving' }],
    }),
  };
}

let changes = 0;

/** What Tron would say. */
export function snapshotOf(...bundles: readonly BundleState[]): Snapshot {
  const epoch: Epoch = `1.${++changes}`;
  return { v: 1, epoch, sentAt: Date.now(), leader: 't1', bundles };
}

export async function publishSnapshot(broker: Broker, store: Store, snapshot: Snapshot): Promise<void> {
  await store.set(StoreKey.snapshot, JSON.stringify(snapshot));
  await broker.declare({ exchanges: [stateExchange] });
  await broker.publish({
    exchange: stateExchange.name,
    routingKey: '',
    body: Buffer.from(JSON.stringify(snapshot)),
    properties: {},
  });
}

export interface CallOptions {
  readonly timeoutMs?: number;
  readonly mayRerun?: boolean;
  readonly attempt?: number;
  readonly meta?: CallMeta;
  readonly body?: string;
  readonly id?: string;
}

export interface CallOutcome {
  readonly status: number;
  readonly headers: ReplyMeta['headers'];
  readonly body: string;
  /** Code of a failed reply, or how the call ended without one. */
  readonly code: string | undefined;
  /** Absent without a reply. */
  readonly times?: Required<Pick<ReplyRecord, 'arrivedUs' | 'waitUs' | 'coldUs' | 'funcUs'>>;
}

/** Calls a revision as a frontend does. */
export function call(rpc: Rpc, target: RpcTarget, operation: number, options: CallOptions = {}): Promise<CallOutcome> {
  return new Promise((resolve) => {
    rpc.call(
      target,
      {
        id: parseId(options.id ?? newId()) ?? Buffer.alloc(16),
        deadline: Date.now() + (options.timeoutMs ?? 5_000),
        operation,
        flags: options.mayRerun === false ? 0 : CallFlag.mayRerun,
        meta: JSON.stringify(options.meta ?? {}),
        body: options.body === undefined ? undefined : Buffer.from(options.body),
      },
      {
        onReply(envelope, index) {
          const failed = (envelope.replyFlags(index) & ReplyFlag.failed) !== 0;
          const body = envelope.body(index).toString();
          const meta = envelope.meta(index).toString();
          resolve({
            status: envelope.status(index),
            headers: meta === '' ? undefined : (JSON.parse(meta) as ReplyMeta).headers,
            body,
            code: failed ? (JSON.parse(body) as FailedReply).code : undefined,
            times: {
              arrivedUs: envelope.arrivedUs(index),
              waitUs: envelope.waitUs(index),
              coldUs: envelope.coldUs(index),
              funcUs: envelope.funcUs(index),
            },
          });
        },
        onFailure: (failure: RpcFailure) => resolve({ status: 0, headers: undefined, body: '', code: failure }),
      },
    );
  });
}

/** A broker whose publishes that `holds` names wait until `open` is called, or only what is heard of them: their confirms. */
export function gate(
  broker: Broker,
  holds: (message: OutgoingMessage) => boolean,
  what: 'messages' | 'confirms' = 'messages',
): { broker: Broker; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    open: resolve,
    broker: new Proxy(broker, {
      get(target, name) {
        if (name === 'publish') {
          return async (message: OutgoingMessage) => {
            if (what === 'messages' && holds(message)) await promise;
            const outcome = await target.publish(message);
            if (what === 'confirms' && holds(message)) await promise;
            return outcome;
          };
        }
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    }),
  };
}

export interface TestRunnerOptions {
  readonly operations: readonly TestOperation[];
  readonly isolate: IsolateKind;
  /** What the isolate runs; default: nothing. */
  readonly source?: string;
  readonly manifest?: Partial<Manifest>;
  readonly config?: Partial<Config>;
  /** The runner's; default: none. */
  readonly log?: Log;
  /** What the runner is given for its broker; default: the handle as it is. */
  readonly wrap?: (broker: MemoryBroker) => Broker;
  /** False: does not wait until the revision is consumed. */
  readonly waits?: boolean;
}

/** A runner over the embedded broker and store, holding one bundle, and a frontend's side of the queue. */
export interface TestRunner {
  /** The test's own handle; the runner has another one. */
  readonly broker: MemoryBroker;
  readonly runnerBroker: MemoryBroker;
  readonly store: Store;
  readonly runner: Runner;
  readonly bundle: TestBundle;
  readonly rpc: Rpc;
  /** Where the rpc gets its replies. */
  readonly replyQueue: string;
  readonly config: Config;
  readonly folder: string;
  call(operation?: number, options?: CallOptions): Promise<CallOutcome>;
  /** Every report of the runner so far. */
  readonly reports: readonly RunnerReport[];
  /** Every line of a bundle's log so far. */
  readonly lines: readonly LogLine[];
  /** A report made after this was asked. */
  report(): Promise<RunnerReport>;
  close(): Promise<void>;
}

export function testConfig(dataDir: string, overrides: Partial<Config> = {}): Config {
  return { ...readConfig({}, {}), dataDir, logLevel: 'silent', reportMs: 200, drainMs: 3_000, ...overrides };
}

export async function openTestRunner(options: TestRunnerOptions): Promise<TestRunner> {
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-runner-'));
  const stack = new ServiceStack();
  stack.push('folder', {
    close: () => Promise.resolve(rmSync(folder, { recursive: true, force: true })),
  });
  const broker = stack.push('broker', await openMemoryBroker({ file: undefined, log: silent }));
  const store = stack.push('store', await openSqliteStore({ file: join(folder, 'store.sqlite'), log: silent }));
  const rpcId = newId();
  const rpc = stack.push(
    'rpc',
    openRpc({
      broker,
      id: rpcId,
      clock: Date,
      log: silent,
      limits: { maxInFlight: 10_000, maxInFlightBytes: 1e9 },
    }),
  );
  const bundle = await storeBundle(store, options);
  const config = testConfig(folder, options.config);
  const runnerBroker = broker.connect();
  const reports: RunnerReport[] = [];
  await broker.declare(reportTopology);
  await broker.consume(REPORT_QUEUE, {}, ({ body }) => reports.push(JSON.parse(body.toString()) as RunnerReport));
  const lines: LogLine[] = [];
  await broker.declare(listenerTopology(logExchange, 'test', ['#'], 100));
  await broker.consume(listenerQueue(logExchange.name, 'test'), {}, ({ body }) =>
    lines.push(...(JSON.parse(body.toString()) as LogLine[])),
  );
  await publishSnapshot(broker, store, snapshotOf(bundle.state(['r1'])));
  const runner = stack.push(
    'runner',
    await openRunner({
      config,
      broker: options.wrap?.(runnerBroker) ?? runnerBroker,
      store,
      log: options.log ?? silent,
      id: 'r1',
      isolate: options.isolate,
    }),
  );
  const target = new RpcTarget(bundle.queue, 25);
  const test: TestRunner = {
    broker,
    runnerBroker,
    store,
    runner,
    bundle,
    rpc,
    replyQueue: replyQueue(rpcId).name,
    config,
    folder,
    call: (operation = 0, callOptions = {}) => call(rpc, target, operation, callOptions),
    reports,
    lines,
    async report() {
      const askedAt = Date.now();
      await until('a report', () => (reports.at(-1)?.sentAt ?? 0) > askedAt);
      return reports.at(-1) ?? assert.fail();
    },
    close: () => stack.close(),
  };
  await until('the rpc is ready', () => rpc.isReady);
  if (options.waits !== false)
    await until('the bundle is consumed', async () => (await broker.probe(bundle.queue))?.consumers === 1);
  return test;
}
