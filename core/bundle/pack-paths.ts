import { relative, sep } from 'node:path';
import type { Metafile } from 'esbuild';

/** What a file is called in a packed bundle, given its way from the bundle's folder. */
export type Rename = (path: string) => string;

/**
 * esbuild names files by their way from the bundle's folder (`../../node_modules/a/index.js`), in comments, in its
 * module wrappers and in the source map: the digest would change with the folder's place. This gives each such file
 * the name it has everywhere: `node_modules/a/index.js`, and `funcatron/index.ts` for the sdk.
 */
export function createRename(folder: string, sdk: string): Rename {
  const sdkPath = relative(folder, sdk).split(sep).join('/');
  return (path) => {
    if (path === sdkPath) return 'funcatron/index.ts';
    const at = path.indexOf('node_modules/');
    return at > 0 && path.startsWith('../') ? path.slice(at) : path;
  };
}

/**
 * Renames files where esbuild writes them: alone in a comment line, as the key of a module wrapper, and in the source
 * map, whose columns behind such a key move.
 */
export function renamePaths(
  packed: { readonly code: string; readonly map: string },
  rename: Rename,
): { readonly code: string; readonly map: string } {
  const map = JSON.parse(packed.map) as { sources: string[]; mappings: string };
  const mappings = map.mappings.split(';');
  const lines = packed.code.split('\n').map((line, index) => {
    const [, before = '', path = '', after = ''] = /^(\/\/ | {2}")(\.\.\/[^"]+)($|"\(.*)/.exec(line) ?? [];
    const renamed = rename(path);
    if (renamed === path) return line;
    mappings[index] = moveColumns(mappings[index] ?? '', before.length, renamed.length - path.length);
    return `${before}${renamed}${after}`;
  });
  // Beside the inputs there are the files that packages' own source maps name.
  const sources = map.sources.map(rename);
  return { code: lines.join('\n'), map: JSON.stringify({ ...map, sources, mappings: mappings.join(';') }) };
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/**
 * One line of a source map's mappings with everything behind column `from` moved. A segment begins with its column as
 * a difference from the one before, so only the first behind `from` changes. Source: ECMA-426 §9.2.
 */
function moveColumns(line: string, from: number, by: number): string {
  if (line === '') return line;
  const segments = line.split(',');
  let column = 0;
  for (const [index, segment] of segments.entries()) {
    const { value, length } = readVlq(segment);
    column += value;
    if (column <= from) continue;
    segments[index] = writeVlq(value + by) + segment.slice(length);
    break;
  }
  return segments.join(',');
}

/** The first number of a segment: base 64 digits of five bits, lowest first, the sixth bit saying that more follow. */
function readVlq(text: string): { value: number; length: number } {
  let bits = 0;
  let length = 0;
  for (let digit = 32; digit >= 32; length++) {
    digit = BASE64.indexOf(text[length] ?? 'A');
    bits += (digit & 31) * 32 ** length;
  }
  return { value: bits % 2 === 1 ? -((bits - 1) / 2) : bits / 2, length };
}

function writeVlq(value: number): string {
  let bits = value < 0 ? -value * 2 + 1 : value * 2;
  let text = '';
  do {
    const more = bits >= 32 ? 32 : 0;
    text += BASE64[(bits % 32) + more] ?? '';
    bits = Math.floor(bits / 32);
  } while (bits > 0);
  return text;
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
