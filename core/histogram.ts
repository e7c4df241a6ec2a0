/** Counts of values by size: plain numbers, because they are counted on the hot path and read rarely. */
export class Histogram {
  /** Upper bounds, ascending; what is above the last one is counted beside them. */
  readonly bounds: readonly number[];
  /** Values up to each bound and above the one before it; the last entry is of those above all of them. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Counts a value; `times` when several are the same. */
  observe(value: number, times = 1): void {
    const { bounds } = this;
    let index = 0;
    while (index < bounds.length && value > (bounds[index] ?? 0)) index++;
    this.#counts[index] = (this.#counts[index] ?? 0) + times;
    this.#sum += value * times;
  }

  get sum(): number {
    return this.#sum;
  }

  /** Values up to each bound, smaller ones included, and last all of them: as Prometheus has them. */
  cumulated(): readonly number[] {
    let total = 0;
    return Array.from(this.#counts, (count) => (total += count));
  }

  /** Gives what it has counted to `target`, of the same bounds, and begins anew. */
  moveTo(target: Histogram): void {
    for (const [index, count] of this.#counts.entries()) {
      target.#counts[index] = (target.#counts[index] ?? 0) + count;
    }
    target.#sum += this.#sum;
    this.#counts.fill(0);
    this.#sum = 0;
  }
}
