import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { RpcTarget } from '../../core/broker/batch.ts';
import { call } from '../../test/unit/runner/test-runner.ts';
import { HELLO, openZeroRunner, workerPids } from '../zero-runner.ts';

const CALLS = 2_000;

export interface MemoryResult {
  /** What one more bundle without a worker costs the runner's process, its embedded broker included. */
  readonly idleBundleMb: number;
  /** The proportional set size of a worker that has answered 2 000 calls. */
  readonly hotWorkerMb: number;
}

/** Memory of `bundles` bundles that have scaled to zero, and of the worker of one of them when it is hot. */
export async function measureMemory(bundles: number): Promise<MemoryResult> {
  const few = await heldBytes(1);
  const many = await heldBytes(bundles);
  return { idleBundleMb: (many - few) / (bundles - 1) / 2 ** 20, hotWorkerMb: (await hotWorkerBytes()) / 2 ** 20 };
}

async function heldBytes(bundles: number): Promise<number> {
  const runner = await openZeroRunner({ source: HELLO, bundles, warmWorkers: 0 });
  await runner.isCold();
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  await runner.close();
  return heapUsed + external;
}

async function hotWorkerBytes(): Promise<number> {
  const runner = await openZeroRunner({ source: HELLO, bundles: 1, warmWorkers: 0 });
  const target = new RpcTarget(runner.queues[0] ?? '', 25);
  for (let count = 0; count < CALLS; count++) await call(runner.rpc, target, 0);
  const [pid = 0] = workerPids();
  const smaps = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  await runner.close();
  return Number(/^Pss:\s+(\d+) kB$/m.exec(smaps)?.[1]) * 1024;
}
