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
  /** `performance.now()` at which the wait is over for good, and when it is over here unless it is at the head of the line. */
  readonly until: number;
  readonly behindUntil: number;
}

export interface WaitingLineOptions {
  readonly wheel: TimerWheel;
  readonly clock: ClusterClock;
  readonly slotTimeoutMs: number;
  /** Whether calls stay although they are behind the first batch: no other runner can have them. */
  readonly keepsAll?: boolean;
  /** Calls that are to go where a slot may be free, or whose deadline has passed; they are no longer in the line. */
  onOver(calls: readonly HeldCall[]): void;
  /** Calls that have waited for `slotTimeoutMs`, here or since they were made; they are no longer in the line. */
  onRefused(calls: readonly HeldCall[]): void;
}

/**
 * Calls that wait for a slot. It is bounded by what is taken off the queue (`Intake`), or by the operations a guest may have
 * pending. Only the batch at its head may wait for long (`slotTimeoutMs`): those behind it are soon given to whoever is
 * idle. Wherever they wait, it is no longer than that altogether.
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
      until: now + this.#options.slotTimeoutMs,
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
    const refused: HeldCall[] = [];
    let place = 0;
    for (const waiting of this.#waiting) {
      this.#prune(waiting);
      const isRefused = now >= waiting.until;
      const isBehind = place > 0 && now >= waiting.behindUntil && this.#options.keepsAll !== true;
      const kept: HeldCall[] = [];
      for (const call of waiting.calls) {
        if (call.deadline <= clusterNow) over.push(call);
        else if (isRefused || ageMs(call, clusterNow) >= this.#options.slotTimeoutMs) refused.push(call);
        else if (isBehind) over.push(call);
        else kept.push(call);
      }
      this.#size -= waiting.calls.length - kept.length;
      if (kept.length < waiting.calls.length) waiting.calls.splice(0, waiting.calls.length, ...kept);
      if (kept.length > 0) place++;
    }
    this.#waiting = this.#waiting.filter((waiting) => waiting.calls.length > 0);
    this.#watch();
    if (refused.length > 0) this.#options.onRefused(refused);
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

/**
 * How long ago a call was made: its id says so (UUIDv7), and what it waited for elsewhere counts. 0 where that means
 * nothing: a call that has run before, and one of a trigger, whose id may be of the caller's choice and as old as its event.
 */
function ageMs(call: HeldCall, clusterNow: number): number {
  const { id, attempt, batch } = call;
  if (attempt > 1 || batch.address.queue === undefined || (id[6] ?? 0) >> 4 !== 7) return 0;
  return clusterNow - id.readUIntBE(0, 6);
}
