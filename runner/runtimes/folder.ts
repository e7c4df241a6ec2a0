import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { newId } from '../../core/id.ts';

/** Files that a kernel can run by themselves begin so: `#!` of a script, ELF, and Mach-O in its four spellings. */
const PROGRAMS = ['2321', '7f454c46', 'feedface', 'feedfacf', 'cefaedfe', 'cffaedfe'].map((hex) =>
  Buffer.from(hex, 'hex'),
);

/** Tries to put a folder in its place, while others do so too. */
const MOVES = 4;
/** Modes of what is laid out for programs. */
export const READ_ONLY = 0o444;
export const EXECUTABLE = 0o555;

/**
 * Lays the files of a bundle down as a folder for programs, unless they are there already, byte for byte: a program
 * may have changed what it found. Whole or not there at all: written beside and renamed.
 *
 * Archives carry no modes, so that the same files have the same digest on every machine; what begins like a program
 * is made executable, everything is made read-only.
 */
export async function layFiles(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  if (await holds(folder, files)) return;
  const fresh = `${folder}.${newId()}.new`;
  try {
    for (const [name, content] of files) {
      const file = join(fresh, name);
      await mkdir(dirname(file), { recursive: true, mode: 0o755 });
      await writeFile(file, content, { mode: 0o600 });
      // Not by `mode` above: that is cut by the umask.
      await chmod(file, modeOf(content));
    }
    await moveTo(fresh, folder, files);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Somebody else may be first, and programs may run in theirs already: it is replaced only when it is not as it should be. */
async function moveTo(fresh: string, folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await rename(fresh, folder);
    } catch (error) {
      if (await holds(folder, files)) return;
      if (attempt === MOVES) throw error;
      await rm(folder, { recursive: true, force: true });
    }
  }
}

function modeOf(content: Buffer): number {
  return PROGRAMS.some((magic) => content.subarray(0, magic.length).equals(magic)) ? EXECUTABLE : READ_ONLY;
}

/** Whether every file is there as it should be; files that were added beside them do not count. */
async function holds(folder: string, files: ReadonlyMap<string, Buffer>): Promise<boolean> {
  try {
    for (const [name, content] of files) {
      const file = join(folder, name);
      const { mode } = await stat(file);
      if ((mode & 0o777) !== modeOf(content) || !content.equals(await readFile(file))) return false;
    }
    return true;
  } catch {
    return false; // Not there, or not readable: it is laid down anew.
  }
}
