import { accessSync, constants, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { FuncatronError } from '../../core/errors.ts';
import type { WorkerSpec } from '../isolate/isolate.ts';
import { splitCommand } from './command-line.ts';

/** What a worker of programs is started with. */
export interface ProgramCommand {
  readonly folder: string;
  readonly words: readonly string[];
}

/**
 * The command line of a bundle, its program found: one with a slash in the bundle's folder, any other on `path`.
 * @throws INVALID_BUNDLE without files or a command; DEPLOY_FAILED when there is no such program on this machine
 */
export function commandOf(spec: WorkerSpec, path: string): ProgramCommand {
  const words = splitCommand(spec.entry ?? '');
  const [program] = words;
  if (spec.folder === undefined || program === undefined) {
    throw new FuncatronError('INVALID_BUNDLE', `bundle ${spec.bundle} has no program to run`);
  }
  const { folder } = spec;
  const places = program.includes('/') ? [resolve(folder, program)] : path.split(':').map((dir) => join(dir, program));
  const found = places.find(isProgram);
  if (found === undefined) {
    const what = `bundle ${spec.bundle}, revision ${spec.revision}`;
    const hint = program.includes('/')
      ? 'let the file begin with #! and its interpreter, or name the interpreter in x-funcatron.entry'
      : `install it on the runner; looked for in ${path}`;
    throw new FuncatronError('DEPLOY_FAILED', `${what}: there is no program ${program} here`, { data: { hint } });
  }
  return { folder, words: [found, ...words.slice(1)] };
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
