import { Clock } from '../bridge.ts';
import { clocks } from './shared.ts';

/**
 * The guest's clock. It has no finer one of its own than `Date.now`, which may jump; the host says how many ms the
 * worker has run each time it enters, and within one entry `Date.now` tells what has passed since.
 */
const dateNow = Date.now;
let enteredMs = -1;
let enteredAt = 0;
let latest = 0;
/** Unix ms when the worker started. */
export let timeOrigin = dateNow();

/** Says what the time is now. */
export function setTimeOrigin(unixMs: number): void {
  timeOrigin = unixMs;
}

/** Milliseconds since the worker started; never goes back. */
export function nowMs(): number {
  const entered = clocks[Clock.nowMs] ?? 0;
  const now = dateNow();
  if (entered !== enteredMs) {
    enteredMs = entered;
    enteredAt = now;
  }
  const value = entered + (now > enteredAt ? now - enteredAt : 0);
  if (value > latest) latest = value;
  return latest;
}
