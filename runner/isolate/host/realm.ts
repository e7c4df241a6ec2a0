import { constants, type Context, createContext, Script } from 'node:vm';
import { CELLS, Clock, CLOCKS, CLOCKS_AT, type Guest, WINDOW_AT, WINDOW_BYTES } from '../bridge.ts';

/**
 * A guest's realm as the host holds it: functions to call, memory to read and write. No value of the guest's is ever
 * looked into. States: opened → loaded (its `init` has passed) → dropped (`state: fresh`: its call has been answered).
 */
export class Realm {
  readonly guest: Guest;
  readonly cells: Int32Array;
  readonly window: Buffer;
  /** Not yet loaded, or dropped: calls must not enter. */
  isLoaded = false;
  isDropped = false;
  /** Has work for the end of this turn. */
  isTouched = false;
  readonly #context: Context;
  readonly #clocks: Float64Array;
  #startedMs = performance.now();

  constructor(context: Context, guest: Guest) {
    this.#context = context;
    this.guest = guest;
    this.cells = new Int32Array(guest.shared, 0, CELLS);
    this.#clocks = new Float64Array(guest.shared, CLOCKS_AT, CLOCKS);
    this.window = Buffer.from(guest.shared, WINDOW_AT, WINDOW_BYTES);
  }

  /** Its time begins now: it may have waited long for a bundle. */
  startClock(): void {
    this.#startedMs = performance.now();
    this.setNow();
  }

  /** Tells the guest what the time is; before every entry. */
  setNow(): void {
    this.#clocks[Clock.nowMs] = Math.floor(performance.now() - this.#startedMs);
  }

  /** When its next timer is due, on the clock of `performance.now`; Infinity when there is none. */
  get timerDueMs(): number {
    return this.#startedMs + (this.#clocks[Clock.timerDueMs] ?? Infinity);
  }

  /** Runs the guest's microtasks to their end. */
  tick(): void {
    NOTHING.runInContext(this.#context);
  }

  /** Runs a script in the realm; the value is the guest's. */
  run(script: Script): unknown {
    return script.runInContext(this.#context);
  }

  /** For `vm.compileFunction`. */
  get context(): Context {
    return this.#context;
  }
}

const NOTHING = new Script('0', { filename: 'tick.js' });

/**
 * The script that makes a context a guest's realm.
 * @param code text of the built guest
 * @param cachedData V8's code cache of that text, where there is one
 */
export function createBootstrap(code: string, cachedData: Buffer | undefined): Script {
  return new Script(code, { filename: 'guest.js', ...(cachedData === undefined ? {} : { cachedData }) });
}

/**
 * Makes a realm and runs the bootstrap in it, before any bundle.
 * A context without a contextified global has no interceptors and no host prototypes, and runs 30 times as fast; its own
 * microtask queue runs only when `tick` says so; strings and wasm never become code.
 */
export function createRealm(bootstrap: Script): Realm {
  const context = createContext(constants.DONT_CONTEXTIFY, {
    name: 'guest',
    codeGeneration: { strings: false, wasm: false },
    microtaskMode: 'afterEvaluate',
  });
  // Read here and now, while every prototype in the realm is V8's own.
  return new Realm(context, { ...(bootstrap.runInContext(context) as Guest) });
}
