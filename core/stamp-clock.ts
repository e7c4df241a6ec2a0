/** Further apart, the system's clock has been set since this process began. */
const STEP_MS = 5;

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
    const stepMs = Date.now() - this.#originMs - performance.now();
    if (Math.abs(stepMs) > STEP_MS) this.#originMs += stepMs;
    return shiftStamp(0, (this.#originMs + atMs - offsetMs) * 1000);
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
