import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { Piscina } from 'piscina';
import { Channel } from './channel.ts';
import { PIECE_BYTES, ThreadFrame, threadHead, YOUNG_MB } from './thread-frames.ts';

/**
 * The child that workers of `thread` share: it runs no guest itself, starts and ends threads as its runner says, and
 * passes their bytes on unread. `process.argv`: the file of piscina, then the arguments of Node for every thread.
 * Those hold `--permission` without `--allow-worker`: this process needs it, and a thread that had it could start
 * another without any permission model (docs/security.md).
 */

/** Longest frame: a piece of a stream. */
const MAX_FRAME_BYTES = PIECE_BYTES + 64;
/** More threads than one process can hold; the runner's budget of workers is far smaller. */
const MAX_THREADS = 500;

/** A thread as this process holds it. */
interface Thread {
  readonly port: MessagePort;
  readonly abort: AbortController;
}

const [, , piscinaFile = '', ...threadArgv] = process.argv;
const { Piscina: Pool } = createRequire(__filename)(piscinaFile) as { Piscina: typeof Piscina };
/** A pool for each size of heap: piscina gives all threads of a pool the same limits. */
const pools = new Map<number, Piscina>();
const threads = new Map<number, Thread>();

process.on('uncaughtException', () => process.exit(1));

const channel = new Channel(new Socket({ fd: 3, readable: true, writable: true }), MAX_FRAME_BYTES, {
  onFrame(kind, payload) {
    try {
      dispatch(kind, payload);
    } catch {
      process.exit(1); // whoever is there, it is not our runner
    }
  },
  onEnd: () => process.exit(0),
});
channel.send(ThreadFrame.hello);

function dispatch(kind: number, payload: Buffer): void {
  const number = payload.readUInt32BE(0);
  switch (kind) {
    case ThreadFrame.start:
      return void run(number, payload.readUInt32BE(4));
    case ThreadFrame.bytes:
      return pass(number, new Uint8Array(payload.subarray(4)));
    case ThreadFrame.taken:
      return threads.get(number)?.port.postMessage(payload.readUInt32BE(4), []);
    case ThreadFrame.end:
      return threads.get(number)?.abort.abort();
    default:
      throw new RangeError(`unknown kind of frame: ${kind}`);
  }
}

function pass(number: number, bytes: Uint8Array<ArrayBuffer>): void {
  threads.get(number)?.port.postMessage(bytes, [bytes.buffer]);
}

function poolOf(memoryMb: number): Piscina {
  const found = pools.get(memoryMb);
  if (found !== undefined) return found;
  const pool = new Pool({
    filename: pathToFileURL(join(__dirname, 'thread.cjs')).href,
    minThreads: 0,
    maxThreads: MAX_THREADS,
    // A thread that waited for tasks in Atomics.wait would not run its timers.
    atomics: 'disabled',
    recordTiming: false,
    execArgv: threadArgv,
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: memoryMb, maxYoungGenerationSizeMb: YOUNG_MB },
  });
  // A thread that dies without a task: there is nobody to tell.
  pool.on('error', () => undefined);
  pools.set(memoryMb, pool);
  return pool;
}

async function run(number: number, memoryMb: number): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  const abort = new AbortController();
  threads.set(number, { port: port1, abort });
  port1.on('message', (message: Uint8Array | number) => {
    if (typeof message === 'number') channel.send(ThreadFrame.taken, threadHead(number, message));
    else sendPieces(number, Buffer.from(message.buffer));
  });
  const closed = new Promise<void>((resolve) => {
    port1.once('close', resolve);
  });
  let why: unknown;
  try {
    await poolOf(memoryMb).run(
      { port: port2 },
      {
        // piscina's types name the options of structuredClone; it passes this on as postMessage's list.
        transferList: [port2] as never,
        signal: abort.signal,
      },
    );
  } catch (thrown) {
    why = thrown;
  }
  // Does nothing to a port that went to its thread, and ends the wait for a thread that never was.
  port2.close();
  // Not before the thread has really ended: until then it may still compute.
  await closed;
  threads.delete(number);
  const { code, message } = (why ?? {}) as { code?: unknown; message?: unknown };
  const head = Buffer.concat([threadHead(number), Buffer.of(code === 'ERR_WORKER_OUT_OF_MEMORY' ? 1 : 0)]);
  channel.send(ThreadFrame.ended, head, Buffer.from(String(message).slice(0, 200)));
}

function sendPieces(number: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    channel.send(ThreadFrame.bytes, threadHead(number), bytes.subarray(at, at + PIECE_BYTES));
  }
}
