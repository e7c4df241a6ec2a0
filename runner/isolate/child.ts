import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';
import { FuncatronError } from '../../core/errors.ts';
import { within } from '../../core/lifecycle.ts';
import { Channel, FrameKind } from './channel.ts';
import type { WorkerExit } from './isolate.ts';
import { limitMemory, readMemory, type Walls } from './launch.ts';
import { Stderr } from './stderr.ts';

/** Longest frame a worker may send: replies of 1 MiB plus one, or an operation with its 8 MiB. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;
/** How soon a process is expected to exit once its channel has ended. */
const EXIT_MS = 250;
export type OnFrame = (kind: number, payload: Buffer) => void;

/** What a worker needs of what it runs in: a process of its own, or a thread. */
export type WorkerChild = Pick<
  Child,
  'pid' | 'channel' | 'exited' | 'idleBytes' | 'reason' | 'adopt' | 'end' | 'close'
>;

/**
 * A worker's process and the channel to it; it comes up without a bundle and belongs to nobody until `adopt`.
 * States: coming up → up (waits for a bundle, its memory limited) → adopted → gone.
 */
export class Child {
  readonly pid: number;
  /** What its heap was started with; its data is limited by the same figure. */
  readonly memoryMb: number;
  readonly channel: Channel;
  /** Settles when it waits for its bundle; rejects when it ends before, or does not come up in time. */
  readonly up: Promise<void>;
  /** Settles when the process is gone and what it wrote has been read. */
  readonly exited: Promise<WorkerExit>;
  /** Resident memory while it waits for its bundle; 0 where that cannot be read. */
  idleBytes = 0;
  readonly #process: ChildProcess;
  readonly #stderr: Stderr;
  #onFrame: OnFrame;
  /** Why the process is about to end, when it is known before it does; afterwards why it did. */
  #reason: WorkerExit | undefined;

  /**
   * @param upMs how long it may take until it waits for its bundle
   * @param besideMb data it may ask for beside that of a process whose only heap is the guest's
   */
  constructor(child: ChildProcess, memoryMb: number, upMs: number, walls: Walls, besideMb = 0) {
    this.#process = child;
    this.memoryMb = memoryMb;
    this.pid = child.pid ?? -1;
    this.#stderr = new Stderr(child.stderr);
    const hello = Promise.withResolvers<void>();
    this.#onFrame = (kind) => {
      if (kind !== FrameKind.hello) throw new Error(`kind ${kind} before its bundle`);
      hello.resolve();
    };
    this.exited = this.#watchExit();
    const socket = child.stdio[3];
    if (!(socket instanceof Socket)) throw new FuncatronError('INTERNAL', 'the worker process has no socket on fd 3');
    this.channel = new Channel(socket, MAX_FRAME_BYTES, {
      onFrame: (kind, payload) => this.#receive(kind, payload),
      onEnd: (problem) => this.#ended(problem),
    });
    this.up = this.#comeUp(hello.promise, upMs, walls, besideMb);
    // Whoever waits for it hears of it; this keeps it from counting as unhandled meanwhile.
    this.up.catch(() => undefined);
  }

  /** Why it is gone or about to be; `undefined` while neither. */
  get reason(): WorkerExit | undefined {
    return this.#reason;
  }

  /** Gives the process to a worker: its frames are the worker's from now on. When the worker throws, the process ends. */
  adopt(onFrame: OnFrame): void {
    this.#onFrame = onFrame;
  }

  /** Kills the process for a reason; the first one counts. */
  end(reason: WorkerExit['reason'], detail: string): void {
    this.#reason ??= { reason, detail };
    // A worker that is closing may close its channel a moment before it exits.
    if (this.#reason.reason !== 'closed' || reason === 'killed') this.#process.kill('SIGKILL');
  }

  /** Asks the process to end, and kills it after `ms`. */
  async close(ms: number): Promise<void> {
    this.#reason ??= { reason: 'closed', detail: 'it was closed' };
    this.channel.send(FrameKind.close);
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), ms);
    await this.exited;
    clearTimeout(timer);
  }

  async #comeUp(hello: Promise<void>, upMs: number, walls: Walls, besideMb: number): Promise<void> {
    const died = this.exited.then((exit): never => {
      throw gone(exit);
    });
    await within(Promise.race([hello, died]), upMs, `took longer than ${upMs} ms to start`);
    this.idleBytes = readMemory(this.pid)?.residentBytes ?? 0;
    await limitMemory(walls, this.pid, this.memoryMb + besideMb);
  }

  #receive(kind: number, payload: Buffer): void {
    try {
      this.#onFrame(kind, payload);
    } catch (thrown) {
      this.end('crashed', `it sent a frame that makes no sense: ${String(thrown)}`);
    }
  }

  /** The end of its channel mostly is its own end, which says more. */
  #ended(problem: string | undefined): void {
    if (problem !== undefined) return this.end('crashed', problem);
    const timer = setTimeout(() => this.end('crashed', 'it closed its channel'), EXIT_MS);
    void this.exited.then(() => clearTimeout(timer));
  }

  #watchExit(): Promise<WorkerExit> {
    return new Promise((resolve) => {
      const settle = (exit: WorkerExit): void => {
        this.#reason = exit;
        this.channel.destroy();
        resolve(exit);
      };
      this.#process.once('error', (error) => settle({ reason: 'crashed', detail: error.message }));
      // Killed while its walls go up, the process may leave one behind it that was not yet told to die with it (measured:
      // 10 of 150 of `strict`): the end of the channel ends that.
      this.#process.once('exit', () => this.channel.end(() => undefined));
      // Not 'exit': what it wrote before it died is read first.
      this.#process.once('close', (code, signal) => {
        const detail = how(code, signal, this.#stderr.lastLine());
        settle(this.#stderr.memoryExit() ?? this.#reason ?? { reason: 'crashed', detail });
      });
    });
  }
}

/** What whoever still waits for a process that is gone is told. */
export function gone({ reason, detail }: WorkerExit): Error {
  return new FuncatronError('FUNC_CRASHED', `the worker is gone (${reason}): ${detail}`);
}

function how(code: number | null, signal: string | null, lastLine: string): string {
  const end = signal === null ? `it exited with code ${code}` : `it died of ${signal}`;
  return lastLine === '' ? end : `${end} (${lastLine})`;
}
