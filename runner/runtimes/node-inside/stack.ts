import { pathToFileURL } from 'node:url';

const MAX_LINES = 20;
let folderPath = '';
let folderUrl = '';

/** Says where the bundle lies, with a slash at the end. */
export function setFolder(folder: string): void {
  folderPath = folder;
  folderUrl = pathToFileURL(folder).href;
}

/** From now on stacks have no lines. */
export function hideStacks(): void {
  folderPath = '';
}

/** The lines of a stack that lie in the bundle, its own files before those of packages, named from its folder on. */
export function ownLines(stack: unknown): string {
  if (typeof stack !== 'string' || folderPath === '') return '';
  const all = stack.split('\n').filter((line) => line.includes(folderUrl) || line.includes(folderPath));
  const frames = all.filter((line) => /^\s+at /.test(line)).slice(0, MAX_LINES);
  // An error of syntax has no frame of its own: V8 and the stripper of types put `file:line` above it.
  const lines = frames.length > 0 ? frames : all.slice(0, 1).map((line) => `    at ${line.trim()}:1`);
  return lines.map((line) => line.replaceAll(folderUrl, '').replaceAll(folderPath, '')).join('\n');
}
