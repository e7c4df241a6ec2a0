/** How much may be logged, in lines or in bytes: so many a second, and twice that at once. */
export class LineBudget {
  readonly #perSecond: number;
  #tokens: number;
  #dropped = 0;
  #filledMs = performance.now();

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = 2 * perSecond;
  }

  /** Whether one more line, or so many bytes, may be written now; a refusal is counted. */
  take(cost = 1): boolean {
    const now = performance.now();
    const gained = ((now - this.#filledMs) / 1000) * this.#perSecond;
    this.#tokens = Math.min(2 * this.#perSecond, this.#tokens + gained);
    this.#filledMs = now;
    if (this.#tokens < cost) {
      this.#dropped++;
      return false;
    }
    this.#tokens -= cost;
    return true;
  }

  /** How often it refused since this was asked last. */
  takeDropped(): number {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
