import { createRequire } from 'node:module';
import { compileFunction, Script } from 'node:vm';
import { BUNDLE_FILE, type BundleFunction, type StartFailure } from '../bridge.ts';
import type { findDynamicImport } from '../parse.inside.ts';
import type { Realm } from './realm.ts';

/**
 * What an `import(…)` must look like: after the keyword, which cannot be written with escapes, come blanks or a comment
 * (`/`, and in scripts `<!--` and `-->`), then `(` or `.`. Most bundles hold nothing of the kind and are not parsed twice.
 */
const MAY_IMPORT = /import\s*[(./<-]/;

const PARAMETERS = ['module', 'exports', 'require'];
const HEAD = `(function (${PARAMETERS.join(', ')}) {`;
const TAIL = '\n})';

/** A compiled bundle: one script for every realm, so that what V8 has compiled for one call it has for the next. */
export interface Bundle {
  /** The bundle as a function of that realm, not run yet. */
  in(realm: Realm): BundleFunction;
  /** V8's code cache, with the functions that have run by now; `undefined` when it came with one that V8 took. */
  cache(): Buffer | undefined;
}

/**
 * Compiles a bundle, unless it holds an ImportExpression: the rejection of its promise is an object of the host's realm
 * whatever else is closed (notes/isolation.md §3, attack 6).
 * @param cachedData of the same text, from `Bundle.cache`
 */
export function compileBundle(source: string, cachedData: Buffer | undefined, realm: Realm): Bundle | StartFailure {
  if (MAY_IMPORT.test(source)) {
    const parser = createRequire(__filename)('./parse.cjs') as { findDynamicImport: typeof findDynamicImport };
    const found = parser.findDynamicImport(source);
    if (found !== undefined) return found;
  }
  try {
    const cached = cachedData === undefined ? undefined : wrap(source, cachedData);
    if (cached?.cachedDataRejected === false) return { in: (each) => evaluate(cached, each), cache: () => undefined };
    // `vm.compileFunction` takes a text that is one function body and nothing else, so it cannot close the wrapper
    // (notes/isolation.md §3, attack 35). It makes no cache of functions that have run, which in a bundle are nearly all.
    compileFunction(source, PARAMETERS, { parsingContext: realm.context, filename: BUNDLE_FILE });
    const script = cached ?? wrap(source, undefined);
    return { in: (each) => evaluate(script, each), cache: () => script.createCachedData() };
  } catch (thrown) {
    // V8's own error about text that has not run: no code of the bundle's can be behind it.
    const { name, message, stack } = thrown as Error;
    const [position = ''] = String(stack).split('\n');
    return { phase: 'parse', name, message, stack: position.startsWith(BUNDLE_FILE) ? `    at ${position}:1` : '' };
  }
}

function wrap(source: string, cachedData: Buffer | undefined): Script {
  // A first line for the shell is a comment, but only where a text begins.
  const body = source.startsWith('#!') ? `//${source.slice(2)}` : source;
  return new Script(HEAD + body + TAIL, {
    filename: BUNDLE_FILE,
    columnOffset: -HEAD.length,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
}

/** Nothing of the bundle runs here: the script's value is the function. */
function evaluate(script: Script, realm: Realm): BundleFunction {
  return realm.run(script) as BundleFunction;
}
