import { MAX_TIMERS } from '../bridge.ts';
import { nowMs } from './clock.ts';
import { reportUncaught } from './log.ts';
import { watchTimers } from './outbox.ts';

/** Timers: a binary heap by due time; the host sleeps until the first one and then calls `runTimer`, one timer an entry. */

interface Timer {
  readonly id: number;
  dueMs: number;
  /** Breaks ties: timers of one time run in the order they were made. */
  order: number;
  readonly repeatMs: number;
  readonly run: (...args: unknown[]) => unknown;
  readonly args: unknown[];
  /** Place in the heap; -1 when it is not there. */
  at: number;
}

const { apply } = Reflect;
const heap: Timer[] = [];
const timers = new Map<number, Timer>();
let lastId = 0;
let lastOrder = 0;
/** Where `setTimeout` ends: above it browsers and Node fall back to 1 ms. */
const LONGEST_MS = 2 ** 31 - 1;

watchTimers(() => heap[0]?.dueMs ?? Infinity);

function isBefore(a: Timer, b: Timer): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

function place(timer: Timer, at: number): void {
  heap[at] = timer;
  timer.at = at;
}

function siftUp(timer: Timer, from: number): void {
  let at = from;
  while (at > 0) {
    const parentAt = (at - 1) >> 1;
    const parent = heap[parentAt];
    if (parent === undefined || !isBefore(timer, parent)) break;
    place(parent, at);
    at = parentAt;
  }
  place(timer, at);
}

function siftDown(timer: Timer, from: number): void {
  let at = from;
  for (;;) {
    let childAt = 2 * at + 1;
    const right = heap[childAt + 1];
    let child = heap[childAt];
    if (child === undefined) break;
    if (right !== undefined && isBefore(right, child)) {
      child = right;
      childAt++;
    }
    if (!isBefore(child, timer)) break;
    place(child, at);
    at = childAt;
  }
  place(timer, at);
}

function remove(timer: Timer): void {
  const { at } = timer;
  if (at < 0) return;
  timer.at = -1;
  const last = heap.pop();
  if (last === undefined || last === timer) return;
  siftUp(last, at);
  siftDown(last, last.at);
}

function add(run: unknown, ms: unknown, isRepeating: boolean, args: unknown[]): number {
  if (typeof run !== 'function') throw new TypeError('the first argument of a timer must be a function');
  if (timers.size >= MAX_TIMERS) throw new RangeError(`more than ${MAX_TIMERS} timers are pending`);
  const asked = Math.trunc(Number(ms));
  const delayMs = asked >= 1 && asked <= LONGEST_MS ? asked : 1;
  const timer: Timer = {
    id: ++lastId,
    dueMs: nowMs() + delayMs,
    order: ++lastOrder,
    repeatMs: isRepeating ? delayMs : 0,
    run: run as Timer['run'],
    args,
    at: -1,
  };
  timers.set(timer.id, timer);
  siftUp(timer, heap.length);
  return timer.id;
}

export function setTimeout(run: unknown, ms?: unknown, ...args: unknown[]): number {
  return add(run, ms, false, args);
}

export function setInterval(run: unknown, ms?: unknown, ...args: unknown[]): number {
  return add(run, ms, true, args);
}

/** Runs after what is due now, before any later timer. */
export function setImmediate(run: unknown, ...args: unknown[]): number {
  const id = add(run, 1, false, args);
  const timer = timers.get(id);
  if (timer !== undefined) {
    timer.dueMs = 0;
    siftUp(timer, timer.at);
  }
  return id;
}

export function clearTimer(id?: unknown): void {
  const timer = typeof id === 'number' || typeof id === 'string' ? timers.get(Number(id)) : undefined;
  if (timer === undefined) return;
  timers.delete(timer.id);
  remove(timer);
}

/** See `Guest.timer`: runs the first timer that is due and returns 1 when another one is. */
export function runTimer(): number {
  const now = nowMs();
  const timer = heap[0];
  if (timer === undefined || timer.dueMs > now) return 0;
  remove(timer);
  if (timer.repeatMs > 0) {
    timer.dueMs = now + timer.repeatMs;
    timer.order = ++lastOrder;
    siftUp(timer, heap.length);
  } else {
    timers.delete(timer.id);
  }
  try {
    apply(timer.run, undefined, timer.args);
  } catch (thrown) {
    reportUncaught('a timer', thrown);
  }
  const next = heap[0];
  return next !== undefined && next.dueMs <= now ? 1 : 0;
}
