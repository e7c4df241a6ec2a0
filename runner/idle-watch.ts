import type { HostedWorker } from './hosted-worker.ts';

export interface IdleWatchOptions {
  readonly idleTimeoutMs: number;
  /** Workers that are left alone. */
  readonly workersMin: number;
  readonly workers: ReadonlySet<HostedWorker>;
  /** Has a worker end: it has run nothing for the idle timeout. */
  end(worker: HostedWorker): void;
}

/** Finds the workers a revision has too many: those above its minimum that have run nothing for long. Its timer runs only while there are any above it. */
export class IdleWatch {
  readonly #options: IdleWatchOptions;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: IdleWatchOptions) {
    this.#options = options;
  }

  /** A worker is ready. */
  watch(): void {
    if (this.#timer === undefined) this.#look();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The worker that has been idle longest, where the revision can do without it. */
  longest(): HostedWorker | undefined {
    let longest: HostedWorker | undefined;
    let ready = 0;
    for (const worker of this.#options.workers) {
      if (worker.state !== 'ready') continue;
      ready++;
      if (!worker.isBusy && !(worker.idleSince >= (longest?.idleSince ?? Infinity))) longest = worker;
    }
    return ready > this.#options.workersMin ? longest : undefined;
  }

  #look(): void {
    const { idleTimeoutMs } = this.#options;
    this.#timer = undefined;
    const now = performance.now();
    let idle = this.longest();
    for (; idle !== undefined && now - idle.idleSince >= idleTimeoutMs; idle = this.longest()) this.#options.end(idle);
    const isAbove = idle !== undefined || this.#isAbove();
    if (!isAbove) return;
    // A busy one is idle for that long at the earliest when as much time has passed again.
    const waitMs = idle === undefined ? idleTimeoutMs : idle.idleSince + idleTimeoutMs - now;
    this.#timer = setTimeout(() => this.#look(), Math.ceil(waitMs)).unref();
  }

  #isAbove(): boolean {
    let ready = 0;
    for (const worker of this.#options.workers) if (worker.state === 'ready') ready++;
    return ready > this.#options.workersMin;
  }
}
