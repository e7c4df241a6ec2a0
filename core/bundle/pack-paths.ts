import { relative, sep } from 'node:path';
import type { Metafile } from 'esbuild';

/**
 * esbuild names inputs by their way from the bundle's folder (`../../node_modules/a/index.js`), in comments, in its
 * module wrappers and in the source map: the digest would change with the folder's place. This gives each such input
 * the name it has everywhere: `node_modules/a/index.js`, and `funcatron/index.ts` for the sdk.
 */
export function canonicalPaths(inputs: readonly string[], sdk: string, folder: string): ReadonlyMap<string, string> {
  const sdkInput = relative(folder, sdk).split(sep).join('/');
  const renamed = new Map<string, string>();
  for (const input of inputs) {
    const at = input.indexOf('node_modules/');
    if (input === sdkInput) renamed.set(input, 'funcatron/index.ts');
    else if (at > 0 && input.startsWith('../')) renamed.set(input, input.slice(at));
  }
  return renamed;
}

/** Renames inputs where esbuild writes them: alone in a comment line, or as the key of a module wrapper. Lines stay lines. */
export function renameInCode(code: string, paths: ReadonlyMap<string, string>): string {
  if (paths.size === 0) return code;
  return code.replace(
    /^(\/\/ | {2}")(\.\.\/[^"\n]+)($|"\()/gm,
    (whole, before: string, path: string, after: string) => {
      const renamed = paths.get(path);
      return renamed === undefined ? whole : `${before}${renamed}${after}`;
    },
  );
}

/** Renames the `sources` of a source map. */
export function renameInMap(map: string, paths: ReadonlyMap<string, string>): string {
  const parsed = JSON.parse(map) as { sources: string[] };
  return JSON.stringify({ ...parsed, sources: parsed.sources.map((source) => paths.get(source) ?? source) });
}

/** The shortest way of imports from the entry to `target`, both included; only `target` when there is none. */
export function importChain(metafile: Metafile, entry: string, target: string): string[] {
  const cameFrom = new Map<string, string | undefined>([[entry, undefined]]);
  for (const input of cameFrom.keys()) {
    if (input === target) break;
    for (const imported of metafile.inputs[input]?.imports ?? []) {
      if (!cameFrom.has(imported.path)) cameFrom.set(imported.path, input);
    }
  }
  const chain = [target];
  for (let at = cameFrom.get(target); at !== undefined; at = cameFrom.get(at)) chain.unshift(at);
  return chain;
}
