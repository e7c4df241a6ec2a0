import { writeSync } from 'node:fs';
import type { Reference } from 'isolated-vm';
import { type BundleFunction, CELLS, Clock, CLOCKS, CLOCKS_AT, type Guest, WINDOW_AT, WINDOW_BYTES } from './bridge.ts';
import { isolatedVm } from './strict-lock.inside.ts';
import { Script } from './strict-vm.inside.ts';

/**
 * Stands for host/realm.ts in `strict`: the guest's realm is a context of another V8 isolate. Between the two cross copies
 * of strings and numbers, and bytes through one piece of shared memory; neither side can hold an object of the other's.
 * `process.argv`: the file of isolated-vm, then the megabytes of the guest's heap.
 */

/** Longest single entry: as long as the longest call. The runner's deadlines are far shorter and do not depend on it. */
const ENTRY = { timeout: 15 * 60_000 };
/** The cell in which the guest says that an entry has come to its end. */
const DONE = CELLS - 1;

// Without a handler for catastrophes: they come while this thread waits inside an entry and could run none, and without
// one isolated-vm ends the process.
const isolate = new isolatedVm.Isolate({ memoryLimit: Number(process.argv[3]) });

/** An isolate that ran out of memory cannot be torn down in order. The runner reads the reason on stderr. */
function die(reason: string): never {
  writeSync(2, `${reason}\n`);
  process.abort();
}

/** Runs in the guest, before its bootstrap: wraps every function, so that what an entry returned is not lost to a stray rejection. */
const WRAP = `((memory, make) => { "use strict";
  const done = new Int32Array(memory, ${DONE * 4}, 1);
  const { apply } = Reflect;
  const guest = make();
  let last;
  const wrapped = { __proto__: null, last: () => last, shared: 0 };
  for (const name of Object.keys(guest)) {
    const run = guest[name];
    if (typeof run !== 'function') continue;
    wrapped[name] = (...args) => { done[0] = 0; last = undefined; last = apply(run, undefined, args); done[0] = 1; return last; };
  }
  wrapped.stray = (name, message, stack) => apply(guest.stray, undefined, [{ __proto__: null, name, message, stack }]);
  return wrapped;
})`;

export class Realm {
  readonly guest: Guest;
  readonly cells: Int32Array;
  readonly window: Buffer;
  readonly context = undefined;
  isLoaded = false;
  isDropped = false;
  isTouched = false;
  readonly #context = isolate.createContextSync();
  readonly #clocks: Float64Array;
  #startedMs = performance.now();

  constructor(bootstrap: Script) {
    const memory = new SharedArrayBuffer(WINDOW_AT + WINDOW_BYTES);
    this.cells = new Int32Array(memory, 0, CELLS);
    this.#clocks = new Float64Array(memory, CLOCKS_AT, CLOCKS);
    this.window = Buffer.from(memory as unknown as ArrayBuffer, WINDOW_AT, WINDOW_BYTES);
    this.#context.global.setSync('givenMemory', new isolatedVm.ExternalCopy(memory).copyInto());
    const text = `${WRAP}(givenMemory, () => ${bootstrap.text.trim()})`;
    const wrapped = this.#context.evalSync(text, { reference: true, filename: 'guest.js' });
    this.guest = this.#bind(wrapped);
  }

  startClock(): void {
    this.#startedMs = performance.now();
    this.setNow();
  }

  setNow(): void {
    this.#clocks[Clock.nowMs] = Math.floor(performance.now() - this.#startedMs);
  }

  get timerDueMs(): number {
    return this.#startedMs + (this.#clocks[Clock.timerDueMs] ?? Infinity);
  }

  /** Its microtasks have run at the end of every entry. */
  tick(): void {
    // Nothing is left to do.
  }

  /** A function of the guest's, as a reference that only `evaluate` can use. */
  run(script: Script): unknown {
    const { text, filename, columnOffset } = script;
    return isolate.compileScriptSync(text, { filename, columnOffset }).runSync(this.#context, { reference: true });
  }

  #bind(wrapped: Reference<object>): Guest {
    const of = (name: string): Reference => wrapped.getSync(name as never, { reference: true });
    const last = of('last');
    const stray = of('stray');
    const enter = (name: string): ((...args: unknown[]) => unknown) => {
      const target = of(name);
      return (...args) => {
        this.cells[DONE] = 0;
        try {
          return target.applySync(undefined, args, ENTRY) as unknown;
        } catch (thrown) {
          // Made in this isolate, of strings: an error of the guest's itself never comes here.
          const { name: kind, message, stack } = toError(thrown);
          if (isolate.isDisposed || message.includes('memory limit')) die('the guest is out of memory');
          if (message === 'Script execution timed out.') die('the guest did not come back from an entry');
          if (this.cells[DONE] !== 1) throw thrown;
          stray.applySync(undefined, [kind, message, stack], ENTRY);
          return last.applySync(undefined, [], ENTRY) as unknown;
        }
      };
    };
    const evaluate = enter('evaluate');
    const names = ['setup', 'init', 'destroy', 'enter', 'abort', 'timer', 'settle'];
    const plain = ['announce', 'receive', 'take', 'takeMeta', 'takeBytes'];
    const functions = Object.fromEntries([...names, ...plain].map((name) => [name, enter(name)]));
    return {
      ...functions,
      evaluate: (bundle: BundleFunction) => evaluate((bundle as unknown as Reference).derefInto()),
      // Strays never come from outside: they are the errors of entries, above.
      stray: () => undefined,
      promises: {},
    } as unknown as Guest;
  }
}

function toError(thrown: unknown): { name: string; message: string; stack: string } {
  if (thrown instanceof Error) return { name: thrown.name, message: thrown.message, stack: String(thrown.stack) };
  return { name: 'Error', message: `${String(thrown)} was thrown`, stack: '' };
}

export function createBootstrap(code: string): Script {
  return new Script(code, { filename: 'guest.js' });
}

export function createRealm(bootstrap: Script): Realm {
  return new Realm(bootstrap);
}
