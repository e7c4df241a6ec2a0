import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BundleFunction, StartFailure } from '../../isolate/bridge.ts';
import { errorOf } from '../../isolate/guest/inspect.ts';

/** In place of the host's own: a bundle is a module that Node has loaded. */
export interface Bundle {
  in(): BundleFunction;
  cache(): undefined;
}

let loaded: Bundle | StartFailure = { phase: 'load', name: 'Error', message: 'no module was loaded', stack: '' };

/** Loads the module, so that `compileBundle` has it. */
export async function loadModule(folder: string, entry: string): Promise<void> {
  try {
    const exports = exportsOf((await import(pathToFileURL(join(folder, entry)).href)) as Record<string, unknown>);
    const bundle: BundleFunction = (module) => {
      module.exports = exports;
    };
    loaded = { in: () => bundle, cache: () => undefined };
  } catch (thrown) {
    const error = errorOf(thrown);
    // Node names what imports it by its whole path.
    loaded = { phase: 'load', ...error, message: error.message.replaceAll(join(folder, '/'), '') };
  }
}

export function compileBundle(): Bundle | StartFailure {
  return loaded;
}

/** What a module exports by name; of a CommonJS one also what Node could not see before it ran. */
function exportsOf(namespace: Record<string, unknown>): Record<string, unknown> {
  const { default: own } = namespace;
  return typeof own === 'object' && own !== null ? { ...own, ...namespace } : namespace;
}
