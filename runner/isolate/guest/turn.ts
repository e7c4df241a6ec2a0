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

/** Whether a promise settles within so many ms. */
export function settles(promise: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms);
    const onSettled = (): void => {
      clearTimer(timer);
      resolve(true);
    };
    promise.then(onSettled, onSettled);
  });
}
