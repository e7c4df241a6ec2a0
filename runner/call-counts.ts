import { Histogram } from '../core/histogram.ts';
import { PART_BUCKETS_S } from '../core/metrics.ts';

/** What became of the calls of one revision: plain counters, because they are counted on the hot path and read rarely. */
export class CallCounts {
  /** Answers by operation and status class: `[operation * 6 + class]`, class 0 being none of 1xx … 5xx. */
  readonly #answers: Float64Array;
  readonly operations: readonly string[];
  cancelled = 0;
  expired = 0;
  redelivered = 0;
  rerun = 0;
  crashed = 0;
  /** Seconds calls waited for a slot, and what of that was the start of a worker, for those that waited for one. */
  readonly slotWait = new Histogram(PART_BUCKETS_S);
  readonly coldLoad = new Histogram(PART_BUCKETS_S);

  constructor(operations: readonly string[]) {
    this.operations = operations;
    this.#answers = new Float64Array(operations.length * 6);
  }

  /** Calls were given to a worker, for the first time. */
  started(calls: number, waitMs: number, coldMs: number): void {
    this.slotWait.observe(waitMs / 1000, calls);
    if (coldMs > 0) this.coldLoad.observe(coldMs / 1000, calls);
  }

  answered(operation: number, status: number): void {
    const at = operation * 6 + Math.min(5, Math.floor(status / 100));
    this.#answers[at] = (this.#answers[at] ?? 0) + 1;
  }

  /** Answers so far: `[operationId, '2xx', n]`, those above 0. */
  *answers(): Generator<readonly [operationId: string, statusClass: string, count: number]> {
    for (const [operation, operationId] of this.operations.entries()) {
      for (let status = 1; status < 6; status++) {
        const count = this.#answers[operation * 6 + status] ?? 0;
        if (count > 0) yield [operationId, `${status}xx`, count];
      }
    }
  }
}
