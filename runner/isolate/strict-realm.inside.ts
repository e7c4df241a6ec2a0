import { writeSync } from 'node:fs';
import type { Reference, Script as Compiled } from 'isolated-vm';
import { type BundleFunction, CELLS, Clock, CLOCKS, CLOCKS_AT, type Guest, WINDOW_AT, WINDOW_BYTES } from './bridge.ts';
import { isolatedVm } from './strict-lock.inside.ts';
import { Script } from './strict-vm.inside.ts';

/**
 * Stands for host/realm.ts in `strict`: the guest's realm is a context of another V8 isolate. Between the two cross copies
 * of strings and numbers, and bytes through one piece of shared memory; neither side can hold an object of the other's.
 * `process.argv`: the file of isolated-vm, then the megabytes of the guest's heap.
 */

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

/** Runs in the guest, after its bootstrap: wraps every function, so that what an entry returned is not lost to a stray rejection. */
const WRAP = new Script(
  `(guest) => { "use strict";
  const done = new Int32Array(guest.shared, ${DONE * 4}, 1);
  const { apply } = Reflect;
  let last;
  const wrapped = { __proto__: null, last: () => last };
  for (const name of Object.keys(guest)) {
    const run = guest[name];
    if (typeof run !== 'function') continue;
    wrapped[name] = (...args) => { done[0] = 0; last = undefined; last = apply(run, undefined, args); done[0] = 1; return last; };
  }
  wrapped.stray = (name, message, stack) => apply(guest.stray, undefined, [{ __proto__: null, name, message, stack }]);
  return wrapped;
}`,
  { filename: 'wrap.js' },
);

/** What the isolate has compiled; realms of `state: fresh` share it. It refuses code caches that another isolate made. */
const compiled = new WeakMap<Script, Compiled>();

function compile(script: Script): Compiled {
  const found = compiled.get(script);
  if (found !== undefined) return found;
  const { text, filename, columnOffset } = script;
  const made = isolate.compileScriptSync(text, { filename, columnOffset });
  compiled.set(script, made);
  return made;
}

/**
 * Memory of realms that were dropped and run no more. Used again: the collector of this isolate, which has little else to do,
 * would let hundreds of windows lie (measured: a worker of 64 MB with `state: fresh` died of them after 1300 calls).
 */
const spareMemory: SharedArrayBuffer[] = [];

function takeMemory(): SharedArrayBuffer {
  const memory = spareMemory.pop();
  if (memory === undefined) return new SharedArrayBuffer(WINDOW_AT + WINDOW_BYTES);
  new Uint8Array(memory).fill(0);
  return memory;
}

export class Realm {
  readonly guest: Guest;
  readonly cells: Int32Array;
  readonly window: Buffer;
  readonly context = undefined;
  isLoaded = false;
  isTouched = false;
  readonly #context = isolate.createContextSync();
  readonly #memory = takeMemory();
  readonly #clocks: Float64Array;
  readonly #references: Reference[] = [];
  #isDropped = false;
  #startedMs = performance.now();

  constructor(bootstrap: Script) {
    const memory = this.#memory;
    this.cells = new Int32Array(memory, 0, CELLS);
    this.#clocks = new Float64Array(memory, CLOCKS_AT, CLOCKS);
    this.window = Buffer.from(memory as unknown as ArrayBuffer, WINDOW_AT, WINDOW_BYTES);
    this.#context.global.setSync('givenMemory', new isolatedVm.ExternalCopy(memory).copyInto());
    const guest = this.#run(bootstrap);
    const wrap = this.#run(WRAP);
    const wrapped = wrap.applySync(undefined, [guest.derefInto()], {
      result: { reference: true },
    }) as Reference<object>;
    this.#references.push(wrapped);
    this.guest = this.#bind(wrapped);
  }

  get isDropped(): boolean {
    return this.#isDropped;
  }

  /** Its context goes with it, when this turn has taken what it had to say; to the collector of this isolate it is only a handle. */
  set isDropped(isDropped: boolean) {
    if (isDropped && !this.#isDropped) setImmediate(() => this.#release());
    this.#isDropped = isDropped;
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
    return this.#run(script);
  }

  #run(script: Script): Reference {
    const value = compile(script).runSync(this.#context, { reference: true });
    this.#references.push(value);
    return value;
  }

  #release(): void {
    for (const reference of this.#references) reference.release();
    this.#context.release();
    spareMemory.push(this.#memory);
  }

  #bind(wrapped: Reference<object>): Guest {
    const of = (name: string): Reference => {
      const reference = wrapped.getSync(name as never, { reference: true });
      this.#references.push(reference);
      return reference;
    };
    const last = of('last');
    const stray = of('stray');
    const enter = (name: string): ((...args: unknown[]) => unknown) => {
      const target = of(name);
      return (...args) => {
        this.cells[DONE] = 0;
        try {
          // Without isolated-vm's own timeout: each leaves 400 bytes behind until its time has come, and the runner ends who hangs.
          return target.applySync(undefined, args) as unknown;
        } catch (thrown) {
          // Made in this isolate, of strings: an error of the guest's itself never comes here.
          const { name: kind, message, stack } = toError(thrown);
          if (isolate.isDisposed) die('the guest is out of memory');
          // Afterwards the words may be the guest's.
          if (this.cells[DONE] !== 1) {
            if (message.includes('memory limit')) die('the guest is out of memory');
            throw thrown;
          }
          stray.applySync(undefined, [kind, message, stack]);
          return last.applySync(undefined, []) as unknown;
        }
      };
    };
    const evaluate = enter('evaluate');
    const names = ['setup', 'init', 'destroy', 'enter', 'abort', 'timer', 'settle', 'stream'];
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

/** What isolated-vm says instead of a value that cannot be copied. */
const NO_ERROR = 'An object was thrown from supplied code';

function toError(thrown: unknown): { name: string; message: string; stack: string } {
  if (thrown instanceof Error) {
    const { name, message, stack } = thrown;
    if (message.startsWith(NO_ERROR)) return { name: 'Error', message: 'something was thrown', stack: '' };
    return { name, message, stack: String(stack) };
  }
  return { name: 'Error', message: `${String(thrown)} was thrown`, stack: '' };
}

export function createBootstrap(code: string): Script {
  return new Script(code, { filename: 'guest.js' });
}

export function createRealm(bootstrap: Script): Realm {
  return new Realm(bootstrap);
}
