import { constants, createContext, Script, compileFunction } from 'node:vm';
import {
  BUNDLE_FILE,
  type BundleFunction,
  CELLS,
  CLOCKS,
  CLOCKS_AT,
  type Guest,
  WINDOW_AT,
  WINDOW_BYTES,
} from '../bridge.ts';

/** The guest's realm as the host holds it: functions to call, memory to read and write. No value of the guest's is ever looked into. */
export interface Realm {
  readonly guest: Guest;
  readonly cells: Int32Array;
  readonly clocks: Float64Array;
  readonly window: Buffer;
  /** Runs the guest's microtasks to their end. */
  tick(): void;
  /** Compiles a bundle as the body of a CommonJS function of the guest's realm; throws what V8 has against it. */
  compile(source: string): BundleFunction;
}

/**
 * Makes the realm and runs the bootstrap in it, before any bundle.
 * A context without a contextified global has no interceptors and no host prototypes, and runs 30 times as fast; its own
 * microtask queue runs only when `tick` says so; strings and wasm never become code.
 * @param code text of the built guest
 * @param cachedData V8's code cache of that text, where there is one
 */
export function createRealm(code: string, cachedData: Buffer | undefined): Realm {
  const context = createContext(constants.DONT_CONTEXTIFY, {
    name: 'guest',
    codeGeneration: { strings: false, wasm: false },
    microtaskMode: 'afterEvaluate',
  });
  const bootstrap = new Script(code, { filename: 'guest.js', ...(cachedData === undefined ? {} : { cachedData }) });
  // Read here and now, while every prototype in the realm is V8's own.
  const guest = { ...(bootstrap.runInContext(context) as Guest) };
  const nothing = new Script('0', { filename: 'tick.js' });
  return {
    guest,
    cells: new Int32Array(guest.shared, 0, CELLS),
    clocks: new Float64Array(guest.shared, CLOCKS_AT, CLOCKS),
    window: Buffer.from(guest.shared, WINDOW_AT, WINDOW_BYTES),
    tick: () => void nothing.runInContext(context),
    compile: (source) =>
      compileFunction(source, ['module', 'exports', 'require'], {
        parsingContext: context,
        filename: BUNDLE_FILE,
      }) as BundleFunction,
  };
}
