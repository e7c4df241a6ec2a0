import { AbortController, AbortSignal } from './abort.ts';
import { DOMException } from './dom-exception.ts';
import { TextDecoder, TextEncoder } from './encoding.ts';
import { CustomEvent, Event, EventTarget } from './events.ts';
import { console, reportUncaught } from './log.ts';
import { clearTimer, setImmediate, setInterval, setTimeout } from './timers.ts';

/** What a bundle finds on `globalThis` beside ECMAScript itself, and what it no longer finds. */

/**
 * Removed: WebAssembly has host callbacks in every context; SharedArrayBuffer and Atomics make a precise timer and can
 * block the thread; a FinalizationRegistry runs guest code outside of every turn (notes/isolation.md §3, attacks 23, 24, 33, 41).
 */
const REMOVED = ['WebAssembly', 'SharedArrayBuffer', 'Atomics', 'FinalizationRegistry'];

function queueMicrotask(run: unknown): void {
  if (typeof run !== 'function') throw new TypeError('queueMicrotask takes a function');
  void runLater(run as () => unknown);
}

async function runLater(run: () => unknown): Promise<void> {
  await undefined;
  try {
    run();
  } catch (thrown) {
    reportUncaught('a microtask', thrown);
  }
}

/** Puts the web's globals in place. Runs before the bundle. */
export function installGlobals(): void {
  for (const name of REMOVED) Reflect.deleteProperty(globalThis, name);
  const globals: Record<string, unknown> = {
    console,
    setTimeout,
    setInterval,
    setImmediate,
    clearTimeout: clearTimer,
    clearInterval: clearTimer,
    clearImmediate: clearTimer,
    queueMicrotask,
    TextEncoder,
    TextDecoder,
    Event,
    CustomEvent,
    EventTarget,
    AbortController,
    AbortSignal,
    DOMException,
    global: globalThis,
    self: globalThis,
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
}

/**
 * Switches stack traces off for good: an overflow inside Node's own formatter of stacks hands the guest an error of the
 * host's realm (notes/isolation.md §3, attack 10b). Zero is not enough; `undefined` and not writable is.
 */
export function closeErrors(): void {
  Object.defineProperty(Error, 'stackTraceLimit', { value: undefined, writable: false, configurable: false });
}
