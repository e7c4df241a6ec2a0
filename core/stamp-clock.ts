/** Further apart, the system's clock has been set since this process began. */
const STEP_MS = 5;
/** Two times that are read one after the other are of the same moment, unless another process ran between. */
const MOMENT_MS = 1;

/**
 * Times of this process as stamps, which others can compare with theirs: microseconds of the system's clock, modulo 2^32
 * (71 minutes), never 0. Processes of one machine share that clock; of several, theirs differ by what their clocks do.
 *
 * `Date.now()` would not do: it knows only milliseconds, and a whole call takes about one.
 */
export class StampClock {
  #originMs = performance.timeOrigin;

  /** The stamp of a time of `performance.now()`; `offsetMs` is taken off: 0 for the system's clock, `ClusterClock.offsetMs` for cluster time. */
  stampOf(atMs: number, offsetMs = 0): number {
    if (Math.abs(Date.now() - this.#originMs - performance.now()) > STEP_MS) this.#findOrigin();
    return shiftStamp(0, (this.#originMs + atMs - offsetMs) * 1000);
  }

  /** Leaves it as it is when it cannot be told just now. */
  #findOrigin(): void {
    const before = performance.now();
    const originMs = Date.now() - before;
    if (performance.now() - before > MOMENT_MS || Math.abs(originMs - this.#originMs) <= STEP_MS) return;
    this.#originMs = originMs;
  }
}

/** A stamp so many microseconds later. */
export function shiftStamp(stampUs: number, byUs: number): number {
  return (stampUs + byUs) >>> 0 || 1;
}

/** Microseconds from one stamp to another, at most 35 minutes; below 0 when `toUs` is the earlier one. */
export function betweenStamps(fromUs: number, toUs: number): number {
  return (toUs - fromUs) | 0;
}
