import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { RpcTarget } from '../../core/broker/batch.ts';
import { readArchive } from '../../core/bundle/archive.ts';
import { packBundle } from '../../core/bundle/pack.ts';
import { call } from '../../test/unit/runner/test-runner.ts';
import { HELLO, openZeroRunner, stampNow, type ZeroRunner } from '../zero-runner.ts';
import { root } from '../processes.ts';

const POOL = 4;
const AT_ONCE = 20;
/** Of the process isolate. */
const NICENESS = 10;

/** Milliseconds, of one bundle and one way to start it. */
export interface ColdRow {
  readonly bundle: string;
  readonly way: string;
  readonly coldMs: readonly number[];
  readonly bareMs: readonly number[];
}

/**
 * From a call's arrival at a runner that holds its bundle with no worker, to the first line of its func: one bundle at a
 * time, 20 calls of one bundle at once, and 20 bundles at once, with a pool of 4. Beside it, in turns, what the same takes
 * of processes that do nothing but adopt, compile and run the same text.
 */
export async function measureColdStart(rounds: number): Promise<readonly ColdRow[]> {
  const rows: ColdRow[] = [];
  for (const [bundle, source] of [['hello', HELLO] as const, ['lodash', await lodashSource()] as const]) {
    const runner = await openZeroRunner({ source, bundles: AT_ONCE, warmWorkers: POOL });
    const bare = new BarePool(source);
    try {
      for (const [way, bundles, calls, times] of [
        ['one', 1, 1, rounds * 10],
        [`${AT_ONCE} calls at once`, 1, AT_ONCE, rounds],
        [`${AT_ONCE} bundles at once`, AT_ONCE, 1, rounds],
      ] as const) {
        const row = { bundle, way, coldMs: [] as number[], bareMs: [] as number[] };
        for (let round = 0; round < times; round++) {
          await runner.isCold();
          row.coldMs.push(...(await coldCalls(runner, bundles, calls)));
          await runner.isCold();
          await bare.fill();
          row.bareMs.push(...(await Promise.all(Array.from({ length: bundles }, () => bare.adopt()))));
          await bare.empty();
        }
        rows.push(row);
      }
    } finally {
      await bare.close();
      await runner.close();
    }
  }
  return rows;
}

async function coldCalls(runner: ZeroRunner, bundles: number, calls: number): Promise<number[]> {
  const outcomes = runner.queues.slice(0, bundles).flatMap((queue) => {
    const target = new RpcTarget(queue, 25);
    return Array.from({ length: calls }, async () => {
      const { status, body } = await call(runner.rpc, target, 0, { timeoutMs: 30_000 });
      if (status !== 200) throw new Error(`a cold call was answered ${status} ${body}`);
      return (ranAt(body) - (runner.arrivals.get(queue) ?? Number.NaN)) / 1000;
    });
  });
  return await Promise.all(outcomes);
}

function ranAt(body: string): number {
  return (JSON.parse(body) as { ranAt: number }).ranAt;
}

async function lodashSource(): Promise<string> {
  const { files } = await readArchive((await packBundle(join(root, 'bench/lodash'))).archive);
  return files.get('bundle.js')?.toString() ?? '';
}

interface Bare {
  readonly child: ChildProcess;
  readonly channel: Socket;
}

class BarePool {
  readonly #source: Buffer;
  #ready: Bare[] = [];
  #used: Bare[] = [];

  constructor(source: string) {
    const text = Buffer.from(source);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(text.length);
    this.#source = Buffer.concat([head, text]);
  }

  async fill(): Promise<void> {
    while (this.#ready.length < POOL) this.#ready.push(await this.#start());
  }

  /** Milliseconds from the wish to the func's first line. */
  async adopt(): Promise<number> {
    const began = stampNow();
    const bare = this.#ready.pop() ?? (await this.#start());
    this.#used.push(bare);
    bare.channel.write(this.#source);
    const [answer] = (await once(bare.channel, 'data')) as [Buffer];
    return (ranAt(answer.toString()) - began) / 1000;
  }

  async empty(): Promise<void> {
    const used = this.#used.splice(0);
    await Promise.all(
      used.map(async ({ child, channel }) => {
        channel.end();
        await once(child, 'exit');
      }),
    );
  }

  async close(): Promise<void> {
    this.#used.push(...this.#ready.splice(0));
    await this.empty();
  }

  async #start(): Promise<Bare> {
    const child = spawn(process.execPath, [join(root, 'bench/bare-child.cjs')], {
      env: {},
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    });
    // As workers are: both shall have the same share of a busy machine.
    if (child.pid !== undefined) setPriority(child.pid, NICENESS);
    const channel = child.stdio[3];
    if (!(channel instanceof Socket)) throw new Error('no socket on fd 3');
    await once(channel, 'data');
    return { child, channel };
  }
}
