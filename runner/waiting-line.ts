import type { ClusterClock } from '../core/clock.ts';
import type { TimerWheel, WheelEntry } from '../core/deadline.ts';
import type { Batch, HeldCall } from './call.ts';

/** How often the line looks whose time is over. */
const SWEEP_MS = 50;
/** How long calls behind the first batch wait before they are sent back: other runners may be idle. */
const BEHIND_MS = 200;

interface Waiting {
  readonly batch: Batch;
  readonly calls: HeldCall[];
  /** `performance.now()` at which the wait is over when it is at the head of the line, and when it is behind. */
  readonly headUntil: number;
  readonly behindUntil: number;
}

export interface WaitingLineOptions {
  readonly wheel: TimerWheel;
  readonly clock: ClusterClock;
  readonly slotTimeoutMs: number;
  /** Calls that waited long enough, or whose deadline has passed; they are no longer in the line. */
  onOver(calls: readonly HeldCall[]): void;
}

/**
 * Calls that wait for a slot. It is bounded by the consumer's prefetch. Only the batch at its head may wait for long
 * (`slotTimeoutMs`): those behind it are soon given to whoever is idle.
 */
export class WaitingLine implements WheelEntry {
  readonly #options: WaitingLineOptions;
  #waiting: Waiting[] = [];
  #size = 0;
  #isWatched = false;
  tick = 0;

  constructor(options: WaitingLineOptions) {
    this.#options = options;
  }

  /** Calls waiting. */
  get size(): number {
    return this.#size;
  }

  add(batch: Batch, calls: HeldCall[]): void {
    const now = performance.now();
    this.#waiting.push({
      batch,
      calls,
      headUntil: now + this.#options.slotTimeoutMs,
      behindUntil: now + Math.min(BEHIND_MS * (1 + Math.random()), this.#options.slotTimeoutMs),
    });
    this.#size += calls.length;
    this.#watch();
  }

  /** The batch whose calls are next, without those that no longer want a slot. */
  next(): Batch | undefined {
    for (let head = this.#waiting[0]; head !== undefined; head = this.#waiting[0]) {
      this.#prune(head);
      if (head.calls.length > 0) return head.batch;
      this.#waiting.shift();
    }
    return undefined;
  }

  /** Takes up to `count` calls of the batch that is next. */
  take(count: number): readonly HeldCall[] {
    const taken = this.#waiting[0]?.calls.splice(0, count) ?? [];
    this.#size -= taken.length;
    return taken;
  }

  /** Empties the line and returns what waited in it. */
  empty(): readonly HeldCall[] {
    const calls = this.#waiting.flatMap((waiting) => waiting.calls.filter(isWaiting));
    this.#waiting = [];
    this.#size = 0;
    this.#options.wheel.remove(this);
    this.#isWatched = false;
    return calls;
  }

  expire(): void {
    this.#isWatched = false;
    const now = performance.now();
    const clusterNow = this.#options.clock.now();
    const over: HeldCall[] = [];
    let place = 0;
    for (const waiting of this.#waiting) {
      this.#prune(waiting);
      const isOver = now >= (place === 0 ? waiting.headUntil : waiting.behindUntil);
      const kept = isOver ? [] : waiting.calls.filter((call) => call.deadline > clusterNow);
      if (kept.length < waiting.calls.length) {
        for (const call of waiting.calls) if (isOver || call.deadline <= clusterNow) over.push(call);
        this.#size -= waiting.calls.length - kept.length;
        waiting.calls.splice(0, waiting.calls.length, ...kept);
      }
      if (kept.length > 0) place++;
    }
    this.#waiting = this.#waiting.filter((waiting) => waiting.calls.length > 0);
    this.#watch();
    if (over.length > 0) this.#options.onOver(over);
  }

  /** Cancelled calls are settled where they wait; calls of a dead channel come again by themselves. */
  #prune(waiting: Waiting): void {
    if (waiting.batch.delivery?.alive === false) {
      for (const call of waiting.calls) if (call.state === 'waiting' && call.twins === undefined) call.settle();
    }
    const before = waiting.calls.length;
    if (waiting.calls.every(isWaiting)) return;
    waiting.calls.splice(0, before, ...waiting.calls.filter(isWaiting));
    this.#size -= before - waiting.calls.length;
  }

  #watch(): void {
    if (this.#isWatched || this.#waiting.length === 0) return;
    this.#isWatched = true;
    this.#options.wheel.add(this, SWEEP_MS);
  }
}

function isWaiting(call: HeldCall): boolean {
  return call.state === 'waiting';
}
