import { AbortController, AbortSignal } from './abort.ts';
import { nowMs, timeOrigin } from './clock.ts';
import { crypto } from './crypto.ts';
import { DOMException } from './dom-exception.ts';
import { TextDecoder, TextEncoder } from './encoding.ts';
import { CustomEvent, Event, EventTarget } from './events.ts';
import { fetch, Request, Response } from './fetch.ts';
import { Headers } from './headers.ts';
import { console, reportUncaught } from './log.ts';
import { clearTimer, setImmediate, setInterval, setTimeout } from './timers.ts';

/** What a bundle finds on `globalThis` beside ECMAScript itself, and what it no longer finds. */

/**
 * Removed: WebAssembly has host callbacks in every context; SharedArrayBuffer and Atomics make a precise timer and can
 * block the thread; a FinalizationRegistry runs guest code outside of every turn (notes/isolation.md §3, attacks 23, 24, 33, 41).
 */
const REMOVED = ['WebAssembly', 'SharedArrayBuffer', 'Atomics', 'FinalizationRegistry'];

/** Loaded at their first use: most bundles need none of them, and together they would be half of a worker's start. */
const LAZY: Readonly<Record<string, () => unknown>> = {
  URL: () => require('core-js/web/url'),
  URLSearchParams: () => require('core-js/web/url-search-params'),
  structuredClone: () => require('core-js/web/structured-clone'),
  atob: () => require('core-js/stable/atob'),
  btoa: () => require('core-js/stable/btoa'),
  Buffer: () => (require('buffer') as typeof import('buffer')).Buffer,
};

const { apply, defineProperty, deleteProperty, get } = Reflect;

function queueMicrotask(run: unknown): void {
  if (typeof run !== 'function') throw new TypeError('queueMicrotask takes a function');
  void runLater(run as () => unknown);
}

async function runLater(run: () => unknown): Promise<void> {
  await Promise.resolve();
  try {
    apply(run, undefined, []);
  } catch (thrown) {
    reportUncaught('a microtask', thrown);
  }
}

const performance = Object.freeze({
  now: nowMs,
  get timeOrigin(): number {
    return timeOrigin;
  },
});

/** Puts the web's globals in place. Runs before the bundle. */
export function installGlobals(): void {
  for (const name of REMOVED) deleteProperty(globalThis, name);
  const globals: Record<string, unknown> = {
    console,
    setTimeout,
    setInterval,
    setImmediate,
    clearTimeout: clearTimer,
    clearInterval: clearTimer,
    clearImmediate: clearTimer,
    queueMicrotask,
    performance,
    crypto,
    fetch,
    Headers,
    Request,
    Response,
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
  for (const [name, value] of Object.entries(globals)) define(name, value);
  for (const [name, load] of Object.entries(LAZY)) defineLazy(name, load);
}

function define(name: string, value: unknown): void {
  defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}

/** core-js puts what it makes on `globalThis` itself, where it must not find the accessor; `buffer` hands it over. */
function defineLazy(name: string, load: () => unknown): void {
  const loadNow = (): unknown => {
    deleteProperty(globalThis, name);
    const loaded = load();
    define(name, get(globalThis, name) ?? loaded);
    return get(globalThis, name);
  };
  defineProperty(globalThis, name, {
    get: loadNow,
    set: (value) => define(name, value),
    configurable: true,
    enumerable: false,
  });
}

/**
 * Switches stack traces off for good: an overflow inside Node's own formatter of stacks hands the guest an error of the
 * host's realm (notes/isolation.md §3, attack 10b). Zero is not enough; `undefined` and not writable is.
 */
export function closeErrors(): void {
  defineProperty(Error, 'stackTraceLimit', { value: undefined, writable: false, configurable: false });
}
