/** Node's own clock, in place of the guest's, which waits for its host to tell the time. */
export const { timeOrigin } = performance;

export function setTimeOrigin(): void {
  // Node knows when the process started.
}

/** Milliseconds since the process started; never goes back. */
export function nowMs(): number {
  return performance.now();
}
