import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { FuncatronError } from '../../core/errors.ts';
import type { WorkerSpec } from '../isolate/isolate.ts';
import { splitCommand } from './command-line.ts';

/** @throws INVALID_BUNDLE when the bundle has no files */
export function folderOf({ bundle, folder }: Pick<WorkerSpec, 'bundle' | 'folder'>): string {
  if (folder !== undefined) return folder;
  throw new FuncatronError('INVALID_BUNDLE', `bundle ${bundle} has no files to run`);
}

/**
 * The words of a bundle's command line, its program found: one with a slash in the bundle's folder, any other on `path`.
 * @throws INVALID_BUNDLE without a command; DEPLOY_FAILED when there is no such program on this machine, or nothing that
 *   could run it
 */
export function commandOf(spec: WorkerSpec, folder: string, path: string): readonly string[] {
  const words = splitCommand(spec.entry ?? '');
  const [program] = words;
  if (program === undefined) throw new FuncatronError('INVALID_BUNDLE', `bundle ${spec.bundle} has no program to run`);
  const fail = (problem: string, hint: string): FuncatronError => {
    const what = `bundle ${spec.bundle}, revision ${spec.revision}`;
    return new FuncatronError('DEPLOY_FAILED', `${what}: ${problem}`, { data: { hint } });
  };
  const isOwn = program.includes('/');
  const places = isOwn ? [resolve(folder, program)] : path.split(':').map((dir) => join(dir, program));
  const found = places.find(isProgram);
  if (found === undefined && isOwn && places.some(isFile)) {
    const hint = 'let the file begin with #! and its interpreter, or name the interpreter in x-funcatron.entry';
    throw fail(`${program} is no program`, hint);
  }
  if (found === undefined) {
    const hint = isOwn
      ? 'x-funcatron.entry is a command line that runs in the folder of the bundle'
      : `install it on the runner, where it is looked for in ${path}; a file of the bundle is written ./${program}`;
    throw fail(`there is no program ${program} here`, hint);
  }
  const interpreter = isOwn ? interpreterOf(found) : undefined;
  if (interpreter !== undefined && !isProgram(resolve(folder, interpreter))) {
    const hint = interpreter.endsWith('\r')
      ? 'its lines end as on Windows; save it with line ends of Unix'
      : 'install that on the runner, or let the file begin with #!/usr/bin/env and the name of the interpreter';
    throw fail(`${program} is to be run by ${JSON.stringify(interpreter)}, which is not here`, hint);
  }
  return [found, ...words.slice(1)];
}

function isFile(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    // Root may run everything, folders excepted, so ask for the bit too.
    const stats = statSync(file);
    return stats.isFile() && (stats.mode & 0o111) !== 0;
  } catch {
    return false;
  }
}

/** As the kernel reads it, but to the end of the line: what stands after `#!`. */
const INTERPRETER = /^#![ \t]*([^ \t\n]+)/;
const FIRST_LINE_BYTES = 256;

function interpreterOf(file: string): string | undefined {
  const line = Buffer.alloc(FIRST_LINE_BYTES);
  const fd = openSync(file, 'r');
  try {
    readSync(fd, line, 0, FIRST_LINE_BYTES, 0);
  } finally {
    closeSync(fd);
  }
  return INTERPRETER.exec(line.toString('latin1'))?.[1];
}
