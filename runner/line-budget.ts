/** How many log lines may be written: so many a second, and twice that at once. */
export class LineBudget {
  readonly #linesPerSecond: number;
  #tokens: number;
  #dropped = 0;
  #filledMs = performance.now();

  constructor(linesPerSecond: number) {
    this.#linesPerSecond = linesPerSecond;
    this.#tokens = 2 * linesPerSecond;
  }

  /** Whether one more line may be written now; one that may not is counted. */
  take(): boolean {
    const now = performance.now();
    const gained = ((now - this.#filledMs) / 1000) * this.#linesPerSecond;
    this.#tokens = Math.min(2 * this.#linesPerSecond, this.#tokens + gained);
    this.#filledMs = now;
    if (this.#tokens < 1) {
      this.#dropped++;
      return false;
    }
    this.#tokens--;
    return true;
  }

  /** Lines that were refused since this was asked last. */
  takeDropped(): number {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
