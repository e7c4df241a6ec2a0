import { within } from '../../core/lifecycle.ts';
import { Channel, FrameKind } from './channel.ts';
import { gone, MAX_FRAME_BYTES, type OnFrame, type WorkerChild } from './child.ts';
import type { WorkerExit } from './isolate.ts';
import type { ThreadHost } from './thread-host.ts';
import { ThreadStream } from './thread-stream.ts';

/**
 * A thread of the shared child, as a worker holds it: what `Child` is for a process.
 * States: coming up → up → adopted → gone.
 */
export class ThreadChild implements WorkerChild {
  readonly pid: number;
  readonly number: number;
  readonly memoryMb: number;
  readonly channel: Channel;
  readonly stream = new ThreadStream();
  readonly up: Promise<void>;
  readonly exited: Promise<WorkerExit>;
  /** The process is watched as a whole. */
  readonly idleBytes = 0;
  readonly #host: ThreadHost;
  #onFrame: OnFrame;
  #onExit: (exit: WorkerExit) => void = () => undefined;
  #reason: WorkerExit | undefined;

  constructor(host: ThreadHost, number: number, memoryMb: number, upMs: number) {
    this.#host = host;
    this.pid = host.pid;
    this.number = number;
    this.memoryMb = memoryMb;
    this.exited = new Promise((resolve) => {
      this.#onExit = resolve;
    });
    const hello = Promise.withResolvers<void>();
    this.#onFrame = (kind) => {
      if (kind !== FrameKind.hello) throw new Error(`kind ${kind} before its bundle`);
      hello.resolve();
    };
    this.channel = new Channel(this.stream, MAX_FRAME_BYTES, {
      onFrame: (kind, payload) => this.#receive(kind, payload),
      onEnd: (problem) => this.end('crashed', problem ?? 'it closed its channel'),
    });
    this.up = this.#comeUp(hello.promise, upMs);
    // Whoever waits for it hears of it; this keeps it from counting as unhandled meanwhile.
    this.up.catch(() => undefined);
  }

  get reason(): WorkerExit | undefined {
    return this.#reason;
  }

  adopt(onFrame: OnFrame): void {
    this.#onFrame = onFrame;
  }

  end(reason: WorkerExit['reason'], detail: string): void {
    this.#reason ??= { reason, detail };
    if (this.#reason.reason !== 'closed' || reason === 'killed') this.#host.terminate(this.number);
  }

  async close(ms: number): Promise<void> {
    this.#reason ??= { reason: 'closed', detail: 'it was closed' };
    this.channel.send(FrameKind.close);
    const timer = setTimeout(() => this.#host.terminate(this.number), ms);
    await this.exited;
    clearTimeout(timer);
  }

  /** The thread is gone; what it was ended for counts, and else `exit`. */
  ended(exit: WorkerExit): void {
    const reason = exit.reason === 'memory' ? exit : (this.#reason ?? exit);
    this.#reason = reason;
    this.channel.destroy();
    this.#onExit(reason);
  }

  async #comeUp(hello: Promise<void>, upMs: number): Promise<void> {
    const died = this.exited.then((exit): never => {
      throw gone(exit);
    });
    await within(Promise.race([hello, died]), upMs, `did not come up in ${upMs} ms`);
  }

  #receive(kind: number, payload: Buffer): void {
    try {
      this.#onFrame(kind, payload);
    } catch (thrown) {
      this.end('crashed', `it sent a frame that makes no sense: ${String(thrown)}`);
    }
  }
}
