import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { openMemoryBroker } from '../core/broker/memory.ts';
import { openRpc, type Rpc } from '../core/broker/rpc.ts';
import { newId } from '../core/id.ts';
import { delay, ServiceStack } from '../core/lifecycle.ts';
import { openSqliteStore } from '../core/store/sqlite.ts';
import { openRunner } from '../runner/main.ts';
import { publishSnapshot, silent, snapshotOf, storeBundle, testConfig } from '../test/unit/runner/test-runner.ts';

setFlagsFromString('--expose-gc');
const collectYoung = runInNewContext('gc') as (options: { type: 'minor' }) => void;

/** The least a bundle can hold: its func says when it ran, as `stampNow` does. */
export const HELLO = 'exports.run = () => ({ ranAt: Number(Temporal.Now.instant().epochNanoseconds / 1000n) });';

/** Unix µs. The one fine clock that processes and guests share. */
export function stampNow(): number {
  return Number(Temporal.Now.instant().epochNanoseconds / 1000n);
}

export interface ZeroRunnerOptions {
  readonly source: string;
  readonly sourceMap?: string;
  /** Default: ends its workers at once. */
  readonly idleTimeoutS?: number;
  /** How many bundles of that source it holds. */
  readonly bundles: number;
  readonly warmWorkers: number;
}

/** A runner in this process, over the embedded broker and store, whose bundles scale to zero at once. */
export interface ZeroRunner {
  readonly rpc: Rpc;
  /** Of the bundles, in their order. */
  readonly queues: readonly string[];
  /** Of each queue: `stampNow()` when the first calls since `isCold` arrived at the runner. */
  readonly arrivals: ReadonlyMap<string, number>;
  /** Waits until no bundle has a worker and the pool is full. */
  isCold(): Promise<void>;
  close(): Promise<void>;
}

export async function openZeroRunner(options: ZeroRunnerOptions): Promise<ZeroRunner> {
  const { source, sourceMap, bundles, warmWorkers, idleTimeoutS = 0.02 } = options;
  const stack = new ServiceStack();
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-bench-'));
  stack.push('folder', { close: () => Promise.resolve(rmSync(folder, { recursive: true, force: true })) });
  const broker = stack.push('broker', await openMemoryBroker({ file: undefined, log: silent }));
  const store = stack.push('store', await openSqliteStore({ file: join(folder, 'store.sqlite'), log: silent }));
  const limits = { maxInFlight: 10_000, maxInFlightBytes: 1e9 };
  const rpc = stack.push('rpc', openRpc({ broker, id: newId(), clock: Date, log: silent, limits }));
  const config = testConfig(folder, { warmWorkers });
  const arrivals = new Map<string, number>();
  const link = broker.connect();
  const consume = link.consume.bind(link);
  link.consume = (queue, options, onDelivery) =>
    consume(queue, options, (delivery) => {
      if (!arrivals.has(queue)) arrivals.set(queue, stampNow());
      onDelivery(delivery);
    });
  const runner = { config, broker: link, store, log: silent, id: 'r1' };
  stack.push('runner', await openRunner(runner));
  const queues: string[] = [];
  const states = [];
  for (let index = 0; index < bundles; index++) {
    const bundle = await storeBundle(store, {
      name: `bundle-${index}`,
      operations: [{ operationId: 'run' }],
      manifest: { idleTimeoutS, workers: { min: 0, max: 1 } },
      source: `${source}\n// ${index}`,
      ...(sourceMap === undefined ? {} : { sourceMap }),
    });
    queues.push(bundle.queue);
    states.push(bundle.state(['r1']));
    // A few at a time, as they would be deployed.
    if (states.length % 20 === 0 || index === bundles - 1) {
      await publishSnapshot(broker, store, snapshotOf(...states));
      while ((await broker.probe(bundle.queue))?.consumers !== 1) await delay(10);
    }
  }
  return {
    rpc,
    queues,
    arrivals,
    async isCold() {
      // Several times in a row: a process of the pool may just have become a worker, or be on its way up.
      let before = '';
      for (let seen = 0; seen < 3;) {
        await delay(30);
        const now = cpuOf(workerPids());
        seen = now === before && workerPids().length === warmWorkers ? seen + 1 : 0;
        before = now;
      }
      // What looking has left behind would be collected in the middle of the call that is measured: 5 to 15 ms.
      collectYoung({ type: 'minor' });
      arrivals.clear();
    },
    close: () => stack.close(),
  };
}

/** Processes of workers, and those that wait for one. */
export function workerPids(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isWorker(name))
    .map(Number);
}

/** What CPU time processes have taken, as text to be compared. */
function cpuOf(pids: readonly number[]): string {
  return pids.map((pid) => `${pid} ${cpuTicks(pid)}`).join();
}

/** 0 for one that has ended meanwhile. */
function cpuTicks(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    return Number(fields[11]) + Number(fields[12]);
  } catch {
    return 0;
  }
}

function isWorker(pid: string): boolean {
  try {
    if (!readFileSync(`/proc/${pid}/status`, 'latin1').includes(`\nPPid:\t${process.pid}\n`)) return false;
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('host.cjs');
  } catch {
    return false; // it ended meanwhile
  }
}
