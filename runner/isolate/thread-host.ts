import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';
import { FuncatronError } from '../../core/errors.ts';
import { within } from '../../core/lifecycle.ts';
import { Channel } from './channel.ts';
import type { WorkerExit } from './isolate.ts';
import { limitMemory, readMemory, residentLimit, type Walls } from './launch.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { Stderr } from './stderr.ts';
import { ThreadChild } from './thread-child.ts';
import { PIECE_BYTES, ThreadFrame, threadHead, YOUNG_MB } from './thread-frames.ts';

/** How long a thread may take to end before its whole process is killed: a builtin that computes cannot be interrupted. */
const END_MS = 500;
const UP_MS = 15_000;
/** What V8 reserves for a thread's code and heap before it runs; the limit is drawn closer when the thread is up. */
const START_MB = 512;
/**
 * What a thread may take beside its bundle's memory: young objects, Node's own part, compiled code, and buffers that
 * garbage of its heap still holds. More than V8 lets it have: a thread that stays within V8's limits must not be ended,
 * and its neighbours with it [measured: 190 MB in all for one of 64 MB with `state: fresh`].
 */
const THREAD_MB = YOUNG_MB + 64;

export interface ThreadHostOptions {
  readonly process: ChildProcess;
  readonly walls: Walls;
  readonly watch: MemoryWatch;
}

/**
 * The child process that threads share, and the channel to it.
 * States: coming up → up → gone; when it goes, all its threads are gone with it.
 */
export class ThreadHost {
  readonly pid: number;
  /** Settles when threads can be started; rejects when the process ends before. */
  readonly up: Promise<void>;
  readonly exited: Promise<void>;
  isGone = false;
  readonly #options: ThreadHostOptions;
  readonly #channel: Channel;
  readonly #stderr: Stderr;
  readonly #threads = new Map<number, ThreadChild>();
  /** Those of them that V8 has yet to reserve memory for: when it is refused that, it ends the whole process. */
  readonly #comingUp = new Set<number>();
  #room = Promise.resolve();
  readonly #ending = new Map<number, NodeJS.Timeout>();
  #lastNumber = 0;
  #idleBytes = 0;
  /** Why the process is about to end, when it is known before it does. */
  #reason: WorkerExit | undefined;
  /** The thread that it ends for, when that is known. */
  #culprit: number | undefined;
  #onHello: () => void = () => undefined;

  constructor(options: ThreadHostOptions) {
    const { process: child } = options;
    this.#options = options;
    this.pid = child.pid ?? -1;
    this.#stderr = new Stderr(child.stderr);
    this.exited = new Promise((resolve) => {
      const settle = (how: string): void => {
        this.#gone(how);
        resolve();
      };
      child.once('error', (error) => settle(error.message));
      child.once('close', (code, signal) => settle(`exit code ${code}, signal ${signal}`));
    });
    const socket = child.stdio[3];
    if (!(socket instanceof Socket)) throw new FuncatronError('INTERNAL', 'the threads’ process has no socket on fd 3');
    this.#channel = new Channel(socket, PIECE_BYTES + 1024, {
      onFrame: (kind, payload) => this.#receive(kind, payload),
      onEnd: (problem) => this.#kill('crashed', problem ?? 'it closed its channel'),
    });
    this.up = this.#comeUp();
    this.up.catch(() => undefined);
  }

  /** Starts a thread and makes room for it; settles when it is up. */
  async start(memoryMb: number, upMs: number): Promise<ThreadChild> {
    const number = ++this.#lastNumber;
    const thread = new ThreadChild(this, number, memoryMb, upMs);
    this.#threads.set(number, thread);
    this.#comingUp.add(number);
    try {
      await this.#makeRoom();
    } catch (cause) {
      this.#ended(number, false, 'there was no room for it');
      throw cause;
    }
    try {
      this.#begin(thread);
      await thread.up;
      this.#comingUp.delete(number);
      await this.#makeRoom();
    } catch (cause) {
      thread.end('killed', 'it did not come up');
      throw cause;
    }
    return thread;
  }

  #begin(thread: ThreadChild): void {
    const { number, memoryMb } = thread;
    this.#channel.send(ThreadFrame.start, threadHead(number, memoryMb));
    thread.stream.connect({
      send: (bytes) => this.#send(number, Buffer.from(bytes.buffer)),
      acknowledge: (bytes) => this.#channel.send(ThreadFrame.taken, threadHead(number, bytes)),
    });
  }

  /** Gives the process room for its threads. One at a time: the last one knows of all threads, and its limits are to stay. */
  #makeRoom(): Promise<void> {
    this.#room = this.#room.catch(() => undefined).then(() => this.#setLimits());
    return this.#room;
  }

  async #setLimits(): Promise<void> {
    const { walls, watch } = this.#options;
    let budgetMb = 0;
    for (const { memoryMb } of this.#threads.values()) budgetMb += memoryMb;
    const mostMb = budgetMb + this.#threads.size * THREAD_MB;
    watch.remove(this.pid);
    if (this.#idleBytes > 0) {
      const limit = residentLimit(this.#idleBytes, mostMb);
      watch.add(this.pid, limit, (bytes) => {
        this.#kill('memory', `its process used ${Math.round(bytes / 2 ** 20)} MB, with ${budgetMb} for all threads`);
      });
    }
    await limitMemory(walls, this.pid, mostMb + this.#comingUp.size * START_MB, 'soft');
  }

  /** Ends a thread now, and the whole process when the thread does not end in time. */
  terminate(number: number): void {
    if (!this.#threads.has(number) || this.#ending.has(number)) return;
    this.#channel.send(ThreadFrame.end, threadHead(number));
    const kill = (): void => {
      this.#culprit ??= number;
      this.#kill('killed', 'a thread of its process could not be interrupted');
    };
    this.#ending.set(number, setTimeout(kill, END_MS));
  }

  async close(): Promise<void> {
    this.#kill('closed', 'its process was closed');
    await this.exited;
  }

  async #comeUp(): Promise<void> {
    const hello = new Promise<void>((resolve) => {
      this.#onHello = resolve;
    });
    const died = this.exited.then((): never => {
      throw new FuncatronError('FUNC_CRASHED', `the threads’ process did not come up: ${this.#reason?.detail}`);
    });
    await within(Promise.race([hello, died]), UP_MS, `did not come up in ${UP_MS} ms`);
    this.#idleBytes = readMemory(this.pid)?.residentBytes ?? 0;
  }

  #send(number: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      this.#channel.send(ThreadFrame.bytes, threadHead(number), bytes.subarray(at, at + PIECE_BYTES));
    }
  }

  #receive(kind: number, payload: Buffer): void {
    try {
      this.#dispatch(kind, payload);
    } catch (thrown) {
      this.#kill('crashed', `its process sent a frame that makes no sense: ${String(thrown)}`);
    }
  }

  #dispatch(kind: number, payload: Buffer): void {
    if (kind === ThreadFrame.hello) return this.#onHello();
    const number = payload.readUInt32BE(0);
    const thread = this.#threads.get(number);
    switch (kind) {
      case ThreadFrame.bytes:
        return thread?.stream.receive(payload.subarray(4));
      case ThreadFrame.taken:
        return thread?.stream.acknowledged(payload.readUInt32BE(4));
      case ThreadFrame.ended:
        return this.#ended(number, payload[4] === 1, payload.toString('utf8', 5, 205));
      default:
        throw new Error(`unknown kind ${kind}`);
    }
  }

  #ended(number: number, isMemory: boolean, why: string): void {
    clearTimeout(this.#ending.get(number));
    this.#ending.delete(number);
    const thread = this.#threads.get(number);
    this.#threads.delete(number);
    this.#comingUp.delete(number);
    thread?.ended({ reason: isMemory ? 'memory' : 'crashed', detail: `its thread ended: ${why}` });
  }

  #kill(reason: WorkerExit['reason'], detail: string): void {
    this.#reason ??= { reason, detail };
    this.isGone = true;
    this.#options.process.kill('SIGKILL');
  }

  #gone(how: string): void {
    this.isGone = true;
    const exit = this.#stderr.memoryExit() ??
      this.#reason ?? { reason: 'crashed', detail: `its process ended: ${how}` };
    this.#reason = exit;
    this.#options.watch.remove(this.pid);
    this.#channel.destroy();
    for (const timer of this.#ending.values()) clearTimeout(timer);
    this.#ending.clear();
    const threads = [...this.#threads.values()];
    this.#threads.clear();
    const others = this.#culprit === undefined ? 'unknown' : 'another';
    for (const thread of threads) {
      const isOwn = thread.number === this.#culprit || threads.length === 1;
      thread.ended(isOwn ? exit : { ...exit, culprit: others });
    }
  }
}
