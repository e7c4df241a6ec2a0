import { clearTimer, setTimeout } from './timers.ts';

/** Waiting for the event loop, for the guest's own code. */

let next: Promise<void> | undefined;

/** Goes on in the next turn of the event loop, after everybody else has had one: all who wait share a timer. */
export function nextTurn(): Promise<void> {
  next ??= new Promise((resolve) => {
    setTimeout(() => {
      next = undefined;
      resolve();
    }, 1);
  });
  return next;
}

/** Runs something after so many ms; gives what calls it off. */
export function later(run: () => void, ms: number): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimer(timer);
}
