import { betweenStamps, type StampClock } from '../core/stamp-clock.ts';
import type { Envelope } from '../core/wire/envelope.ts';

/** The parts of a call's time, in the order they come in. */
export const PARTS = ['frontend', 'queue', 'isolate', 'cold', 'func', 'reply', 'unanswered'] as const;
type Part = (typeof PARTS)[number];

/** Whose stamps are compared: those of this process, by cluster time. */
export interface TimingContext {
  readonly stamps: StampClock;
  readonly clock: { readonly offsetMs: number };
}

/**
 * Where the time of one call went, in ms. Each part ends where the next one begins, `cold` lies within `isolate`:
 *
 * - `frontend`: from the request's head to the moment the call left for the broker; its body was read meanwhile, unless its
 *   operation is direct. All there is of a call that never left.
 * - `queue`: from there until the runner that answered it took it from the queue; times with runners before that one
 *   count too. The runner's clock says when, as far as it agrees with what was measured here.
 * - `isolate`: from there to the first line of the func: the wait for a slot, the way to the worker, and the wait in it.
 *   A body that does not cross the queue comes meanwhile, unless the func reads it piece by piece.
 * - `cold`: what of that was the start of a worker; 0 for one that was there.
 * - `func`: from its first line to its answer; bodies that are made piece by piece go on after that.
 * - `reply`: from there until the answer, or the first of it, was back here.
 * - `unanswered`: in the place of all parts behind `frontend`, when no answer came back.
 */
export class CallTiming {
  /** `performance.now()` when the request was read, when its call left (0: it did not), and when its answer was here. */
  readonly startedAt = performance.now();
  sentAt = 0;
  #repliedAt = 0;
  #queueMs = 0;
  #isolateMs = 0;
  #coldMs = 0;
  #funcMs = 0;

  /** Takes what a reply says about its call. What others say never adds up to more than was measured here. */
  read(reply: Envelope, index: number, { stamps, clock }: TimingContext): void {
    const now = performance.now();
    let restMs = now - this.sentAt;
    this.#repliedAt = now;
    this.#funcMs = Math.min(reply.funcUs(index) / 1000, restMs);
    restMs -= this.#funcMs;
    this.#isolateMs = Math.min(reply.waitUs(index) / 1000, restMs);
    restMs -= this.#isolateMs;
    this.#coldMs = Math.min(reply.coldUs(index) / 1000, this.#isolateMs);
    const arrivedUs = reply.arrivedUs(index);
    const queueMs = arrivedUs === 0 ? 0 : betweenStamps(stamps.stampOf(this.sentAt, clock.offsetMs), arrivedUs) / 1000;
    this.#queueMs = Math.min(Math.max(0, queueMs), restMs);
  }

  /** A part as of now; `undefined` when this call has, or had, no such part. */
  part(part: Part): number | undefined {
    if (part === 'frontend') return (this.sentAt || performance.now()) - this.startedAt;
    if (this.sentAt === 0) return undefined;
    const isAnswered = this.#repliedAt !== 0;
    if (part === 'unanswered') return isAnswered ? undefined : performance.now() - this.sentAt;
    if (!isAnswered) return undefined;
    switch (part) {
      case 'queue':
        return this.#queueMs;
      case 'isolate':
        return this.#isolateMs;
      case 'cold':
        return this.#coldMs;
      case 'func':
        return this.#funcMs;
      default:
        return this.#repliedAt - this.sentAt - this.#queueMs - this.#isolateMs - this.#funcMs;
    }
  }

  /** As the value of `Server-Timing` (W3C): `frontend;dur=0.1, queue;dur=0.42, …`. */
  toString(): string {
    let text = '';
    for (const part of PARTS) {
      const ms = this.part(part);
      if (ms === undefined) continue;
      if (text !== '') text += ', ';
      text += `${part};dur=${millis(ms)}`;
    }
    return text;
  }
}

/** Two decimals; four times as fast as `toFixed`. */
function millis(ms: number): number {
  return Math.round(ms * 100) / 100;
}
