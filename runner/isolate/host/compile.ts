import { createRequire } from 'node:module';
import { BUNDLE_FILE, type BundleFunction, type StartFailure } from '../bridge.ts';
import type { findDynamicImport } from '../parse.inside.ts';
import type { Realm } from './realm.ts';

/**
 * What an `import(…)` must look like: after the keyword, which cannot be written with escapes, come blanks or a comment
 * (`/`, and in scripts `<!--` and `-->`), then `(` or `.`. Most bundles hold nothing of the kind and are not parsed twice.
 */
const MAY_IMPORT = /import\s*[(./<-]/;

/**
 * Compiles a bundle, unless it holds an ImportExpression: the rejection of its promise is an object of the host's realm
 * whatever else is closed (notes/isolation.md §3, attack 6).
 */
export function compileSafely(source: string, realm: Realm): BundleFunction | StartFailure {
  if (MAY_IMPORT.test(source)) {
    const parser = createRequire(__filename)('./parse.cjs') as { findDynamicImport: typeof findDynamicImport };
    const found = parser.findDynamicImport(source);
    if (found !== undefined) return found;
  }
  try {
    return realm.compile(source);
  } catch (thrown) {
    // V8's own error about text that has not run: no code of the bundle's can be behind it.
    const { name, message, stack } = thrown as Error;
    const [position = ''] = String(stack).split('\n');
    return { phase: 'parse', name, message, stack: position.startsWith(BUNDLE_FILE) ? `    at ${position}:1` : '' };
  }
}
