/** Shorter times count as this long. */
const LEAST_MS = 0.001;
/** Each bucket is so much wider than the one before it. */
const STEP = 1.01;
const LOG_STEP = Math.log(STEP);
/** Up to three hours. */
const BUCKETS = Math.ceil(Math.log(10_800_000 / LEAST_MS) / LOG_STEP) + 1;

/** Times, counted in buckets of one percent: how long a run takes does not matter to its memory, nor much to its percentiles. */
export class Latencies {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sumMs = 0;
  #leastMs = Infinity;
  #mostMs = 0;

  add(ms: number): void {
    const bucket = bucketOf(ms);
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#count++;
    this.#sumMs += ms;
    if (ms < this.#leastMs) this.#leastMs = ms;
    if (ms > this.#mostMs) this.#mostMs = ms;
  }

  get count(): number {
    return this.#count;
  }

  /** 0 of none, as all the others. */
  get meanMs(): number {
    return this.#count === 0 ? 0 : this.#sumMs / this.#count;
  }

  get leastMs(): number {
    return this.#count === 0 ? 0 : this.#leastMs;
  }

  get mostMs(): number {
    return this.#mostMs;
  }

  /** The time that a share of all (0 to 1) does not exceed: at most one percent too long. */
  at(share: number): number {
    const rank = Math.max(1, Math.ceil(share * this.#count));
    let seen = 0;
    for (const [bucket, count] of this.#counts.entries()) {
      seen += count;
      if (seen >= rank) return Math.min(this.#mostMs, Math.max(this.leastMs, LEAST_MS * STEP ** bucket));
    }
    return 0;
  }

  /** How many took longer than `fromMs` and not longer than `toMs`, to within a bucket. */
  between(fromMs: number, toMs: number): number {
    let seen = 0;
    for (let bucket = fromMs < 0 ? 0 : bucketOf(fromMs) + 1; bucket <= bucketOf(toMs); bucket++)
      seen += this.#counts[bucket] ?? 0;
    return seen;
  }
}

function bucketOf(ms: number): number {
  if (ms <= LEAST_MS) return 0;
  return Math.min(BUCKETS - 1, Math.ceil(Math.log(ms / LEAST_MS) / LOG_STEP));
}
