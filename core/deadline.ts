/**
 * Full-jitter exponential backoff: a random wait between 0 and `min(capMs, baseMs * 2^attempt)`, at least 1 ms.
 * Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 * @param attempt 0 for the first wait
 */
export function backoffMs(attempt: number, baseMs = 100, capMs = 5_000): number {
  return 1 + Math.floor(Math.random() * Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30)));
}

/** One thing a `TimerWheel` calls back. Owned by whoever schedules it; the wheel links it and unlinks it. */
export interface WheelEntry {
  /** The tick it is due at; set by the wheel. */
  tick: number;
  expire(): void;
}

/**
 * Timers for many calls at once: one interval for all of them instead of one timer each.
 * An entry expires up to one `resolutionMs` late, never early. The interval runs only while entries exist.
 */
export class TimerWheel {
  readonly #resolutionMs: number;
  readonly #buckets = new Map<number, Set<WheelEntry>>();
  #timer: NodeJS.Timeout | undefined;
  #tick: number;

  constructor(resolutionMs = 10) {
    this.#resolutionMs = resolutionMs;
    this.#tick = Math.floor(performance.now() / resolutionMs);
  }

  /** Calls `entry.expire()` once, `delayMs` from now. */
  add(entry: WheelEntry, delayMs: number): void {
    if (this.#buckets.size === 0) this.#tick = this.#now();
    entry.tick = Math.max(Math.ceil((performance.now() + delayMs) / this.#resolutionMs), this.#tick + 1);
    const bucket = this.#buckets.get(entry.tick);
    if (bucket === undefined) this.#buckets.set(entry.tick, new Set([entry]));
    else bucket.add(entry);
    this.#timer ??= setInterval(() => this.#advance(), this.#resolutionMs);
  }

  /** Forgets an entry; does nothing when it is not there. */
  remove(entry: WheelEntry): void {
    const bucket = this.#buckets.get(entry.tick);
    if (bucket === undefined || !bucket.delete(entry) || bucket.size > 0) return;
    this.#buckets.delete(entry.tick);
  }

  /** Stops the interval and forgets every entry without expiring it. */
  close(): void {
    this.#buckets.clear();
    this.#stop();
  }

  #now(): number {
    return Math.floor(performance.now() / this.#resolutionMs);
  }

  #advance(): void {
    // The interval is stopped here and not in remove(): under load the wheel empties and fills all the time.
    if (this.#buckets.size === 0) return this.#stop();
    const now = this.#now();
    for (; this.#tick <= now; this.#tick++) {
      const due = this.#buckets.get(this.#tick);
      if (due === undefined) continue;
      this.#buckets.delete(this.#tick);
      for (const entry of due) entry.expire();
    }
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
