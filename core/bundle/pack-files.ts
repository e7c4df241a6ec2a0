import type { Dirent } from 'node:fs';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FuncatronError, type Problem } from '../errors.ts';
import { ARCHIVE_LIMITS, problemOfName } from './archive-reader.ts';
import type { Manifest } from './manifest.ts';

const LEAVE_OUT = 'leave it out of the folder, or give it a name that begins with a dot: such files are not packed';

/**
 * The files of a bundle that runs as a program, by their names in the archive: all of its folder but the document,
 * what begins with a dot, and (unless Node runs it) node_modules.
 * @param root absolute path of the bundle
 * @param document the author's document, which travels under a name of its own
 * @throws INVALID_BUNDLE, PAYLOAD_TOO_LARGE naming the file
 */
export async function packFiles(
  root: string,
  document: string,
  manifest: Pick<Manifest, 'runtime' | 'entry'>,
): Promise<Map<string, Buffer>> {
  const keepsModules = manifest.runtime === 'node';
  const files = new Map<string, Buffer>();
  let bytes = 0;
  // A list, not recursion: folders may be deep. It grows while it is walked.
  const folders = [''];
  for (const folder of folders) {
    for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
      const name = folder + entry.name;
      if (entry.name.startsWith('.') || name === document) continue;
      if (entry.name === 'node_modules' && !keepsModules) continue;
      if (entry.isDirectory()) {
        folders.push(`${name}/`);
        continue;
      }
      refuseOdd(entry, name);
      const { size } = await lstat(join(root, name));
      bytes += size;
      refuseLarge(name, size, bytes, files.size + 1);
      files.set(name, await readFile(join(root, name)));
    }
  }
  refuseWithoutProgram(manifest, files);
  return files;
}

function refuseOdd(entry: Dirent, name: string): void {
  const wrong = entry.isFile() ? (problemOfName(name) ?? problemOfLength(name)) : notAFile(entry);
  if (wrong !== undefined) throw refuse('INVALID_BUNDLE', `${JSON.stringify(name)} ${wrong}`, name, LEAVE_OUT);
}

function notAFile(entry: Dirent): string {
  const what = entry.isSymbolicLink() ? 'is a symbolic link' : 'is no regular file';
  return `${what}; only regular files can be packed`;
}

/** A ustar header holds 100 bytes of name, and 155 of the folders before it. */
function problemOfLength(name: string): string | undefined {
  if (Buffer.byteLength(name) <= 100) return undefined;
  for (let slash = name.indexOf('/'); slash !== -1; slash = name.indexOf('/', slash + 1)) {
    const folders = Buffer.byteLength(name.slice(0, slash));
    if (folders <= 155 && Buffer.byteLength(name.slice(slash + 1)) <= 100) return undefined;
  }
  return 'is too long a name: an archive holds 100 bytes, and 155 of folders before them';
}

function refuseLarge(name: string, size: number, bytes: number, count: number): void {
  const { fileBytes, unpackedBytes, files } = ARCHIVE_LIMITS;
  const hint = 'leave large data out of the bundle and fetch it at run time';
  if (size > fileBytes) {
    throw refuse('PAYLOAD_TOO_LARGE', `${name} has ${size} bytes, more than ${fileBytes}`, name, hint);
  }
  if (bytes > unpackedBytes) {
    throw refuse('PAYLOAD_TOO_LARGE', `its files have more than ${unpackedBytes} bytes together`, name, hint);
  }
  if (count > files) throw refuse('PAYLOAD_TOO_LARGE', `it has more than ${files} files`, name, LEAVE_OUT);
}

/** A module is a file of the bundle, and so is what a command line begins with that is a path. */
function refuseWithoutProgram(
  { runtime, entry }: Pick<Manifest, 'runtime' | 'entry'>,
  files: Map<string, Buffer>,
): void {
  if (runtime === 'node' && !files.has(entry.replace(/^(\.\/)+/, ''))) {
    throw refuse(
      'INVALID_BUNDLE',
      `there is no ${entry}`,
      entry,
      'create it, or name another file in x-funcatron.entry',
    );
  }
  if (runtime !== 'http' && runtime !== 'default') return;
  const [program = ''] = entry.trim().split(/\s+/);
  if (!program.includes('/') || program.startsWith('/') || files.has(program.replace(/^(\.\/)+/, ''))) return;
  const hint = 'create it, or name another program in x-funcatron.entry';
  throw refuse('INVALID_BUNDLE', `there is no ${program}, with which x-funcatron.entry begins`, program, hint);
}

function refuse(code: 'INVALID_BUNDLE' | 'PAYLOAD_TOO_LARGE', message: string, file: string, hint: string) {
  const problem: Problem = { message, file, hint };
  return new FuncatronError(code, `cannot pack the bundle: ${message}`, { data: { problems: [problem] } });
}
