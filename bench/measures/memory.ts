import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { RpcTarget } from '../../core/broker/batch.ts';
import { readArchive } from '../../core/bundle/archive.ts';
import { packBundle } from '../../core/bundle/pack.ts';
import { call } from '../../test/unit/runner/test-runner.ts';
import { pssBytes } from '../process-stat.ts';
import { root } from '../processes.ts';
import { HELLO, openZeroRunner, workerPids, type ZeroRunner } from '../zero-runner.ts';

const HOT = 20;
const CALLS = 200;
/** Workers live long enough to hand over what V8 made of their bundle: an idle bundle has once been hot. */
const IDLE_TIMEOUT_S = 1;

export interface MemoryRow {
  readonly bundle: string;
  readonly deployed: number;
  /** What one more bundle without a worker adds to the runner's process, its embedded broker and store included; NaN of one alone. */
  readonly idleBundleMb: number;
  /** What one with a worker adds to that. */
  readonly hotBundleMb: number;
  /** Proportional set size of one worker of those that are hot: up to `HOT`. */
  readonly workerMb: number;
}

interface Text {
  readonly source: string;
  readonly sourceMap?: string;
}

interface Held {
  readonly idleBytes: number;
  readonly hotBytes: number;
  readonly workerBytes: number;
}

/** Memory of the runner and of workers with so many bundles deployed, 20 of them hot, small ones and lodash-sized ones. */
export async function measureMemory(counts: readonly number[]): Promise<readonly MemoryRow[]> {
  const rows: MemoryRow[] = [];
  for (const [bundle, text] of [['hello', { source: HELLO }] as const, ['lodash', await lodash()] as const]) {
    const base = await measure(text, 1);
    for (const deployed of [1, ...counts]) {
      const held = deployed === 1 ? base : await measure(text, deployed);
      rows.push({
        bundle,
        deployed,
        idleBundleMb: (held.idleBytes - base.idleBytes) / (deployed - 1) / 2 ** 20,
        hotBundleMb: (held.hotBytes - held.idleBytes) / Math.min(HOT, deployed) / 2 ** 20,
        workerMb: held.workerBytes / 2 ** 20,
      });
    }
  }
  return rows;
}

async function measure(text: Text, bundles: number): Promise<Held> {
  const runner = await openZeroRunner({ ...text, bundles, warmWorkers: 0, idleTimeoutS: IDLE_TIMEOUT_S });
  try {
    await runner.isCold();
    const idleBytes = heldBytes();
    await heat(runner);
    const hotBytes = heldBytes();
    const pids = workerPids();
    return { idleBytes, hotBytes, workerBytes: pssBytes(pids) / pids.length };
  } finally {
    await runner.close();
  }
}

async function heat(runner: ZeroRunner): Promise<void> {
  const targets = runner.queues.slice(0, HOT).map((queue) => new RpcTarget(queue, 25));
  for (let count = 0; count < CALLS; count++) await Promise.all(targets.map((target) => call(runner.rpc, target, 0)));
}

/** Of this process, in which the runner is, without what is garbage. */
function heldBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect(); // Buffers go with the second: their finalizers ran in between.
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function lodash(): Promise<Text> {
  const { files } = await readArchive((await packBundle(join(root, 'bench/lodash'))).archive);
  return { source: String(files.get('bundle.js')), sourceMap: String(files.get('bundle.js.map')) };
}
