import { readMemory } from './launch.ts';

/** A process that is watched. */
interface Watched {
  readonly limitBytes: number;
  onExceeded(residentBytes: number): void;
}

/** Reading one /proc/PID/status costs about 20 µs. */
const INTERVAL_MS = 100;

/** Looks at the resident memory of all workers of a runner with one timer, which runs only while there are any. */
export class MemoryWatch {
  readonly #watched = new Map<number, Watched>();
  #timer: NodeJS.Timeout | undefined;

  /** Calls `onExceeded` when the process is larger than the limit, and watches it no more. */
  add(pid: number, limitBytes: number, onExceeded: (residentBytes: number) => void): void {
    this.#watched.set(pid, { limitBytes, onExceeded });
    this.#timer ??= setInterval(() => this.#look(), INTERVAL_MS).unref();
  }

  remove(pid: number): void {
    this.#watched.delete(pid);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    for (const [pid, watched] of this.#watched) {
      const memory = readMemory(pid);
      if (memory === undefined || memory.residentBytes <= watched.limitBytes) continue;
      this.remove(pid);
      watched.onExceeded(memory.residentBytes);
    }
  }
}
