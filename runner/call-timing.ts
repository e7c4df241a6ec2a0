import { betweenStamps, shiftStamp } from '../core/stamp-clock.ts';
import type { Envelope, ReplyRecord } from '../core/wire/envelope.ts';
import type { HeldCall } from './call.ts';

/** The longest time a record has room for. */
const MAX_US = 0xffff_ffff;

/**
 * Takes the arrival that a worker wrote into its answer back to that of the call on this runner, so that its wait begins
 * there: with the wait for a slot, and the way to the worker. What the worker says never leads outside of the time since.
 * A worker that says no arrival has its whole time here, but for that in its func, counted as the wait.
 */
export function stampAnswer(call: HeldCall, answers: Envelope, index: number, offsetMs: number): void {
  const { arrival } = call.batch;
  const sinceUs = (performance.now() - arrival.ms) * 1000;
  const there = answers.arrivedUs(index);
  const waitUs =
    there === 0 ? sinceUs - answers.funcUs(index) : betweenStamps(arrival.us, there) + answers.waitUs(index);
  answers.setTiming(index, stampOf(call, offsetMs), clamp(waitUs, sinceUs), clamp(call.coldMs * 1000, sinceUs));
}

/** For an answer that the runner gives in the place of a func: what ran until now, ran in the func. */
export function timingOf(
  call: HeldCall,
  offsetMs: number,
): Required<Pick<ReplyRecord, 'arrivedUs' | 'waitUs' | 'coldUs' | 'funcUs'>> {
  const { arrival } = call.batch;
  if (arrival.us === 0) return { arrivedUs: 0, waitUs: 0, coldUs: 0, funcUs: 0 };
  const now = performance.now();
  const startedAt = call.startedAt || now;
  return {
    arrivedUs: stampOf(call, offsetMs),
    waitUs: clamp((startedAt - arrival.ms) * 1000, MAX_US),
    coldUs: clamp(call.coldMs * 1000, MAX_US),
    funcUs: clamp((now - startedAt) * 1000, MAX_US),
  };
}

/** Its arrival, by cluster time. */
function stampOf({ batch }: HeldCall, offsetMs: number): number {
  return shiftStamp(batch.arrival.us, -offsetMs * 1000);
}

function clamp(us: number, mostUs: number): number {
  return Math.max(0, Math.floor(Math.min(us, mostUs, MAX_US)));
}
