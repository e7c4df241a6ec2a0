import { execFile } from 'node:child_process';
import { chmod, chown, copyFile, lstat, mkdir, mkdtemp, readdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { newId } from '../../core/id.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { User } from '../isolate/users.ts';
import { EXECUTABLE, READ_ONLY } from './folder.ts';

/** Bundles whose files stay laid out although none of their workers is left. */
const KEPT = 32;

/** Where a worker's program lives. */
export interface Home extends Closable {
  /** The bundle's files. */
  readonly folder: string;
  /** A folder of the worker's own, empty at first, for HOME and TMPDIR; removed by `close`. */
  readonly own: string;
  /** Absent where programs run as the runner's user. */
  readonly user: User | undefined;
}

/** The files of one bundle, laid out for one user. */
interface Lot {
  readonly folder: string;
  readonly user: User | undefined;
  readonly laid: Promise<void>;
  workers: number;
}

/**
 * The homes of programs, in a folder of their own: the runner's data folder is nobody else's.
 * Where there are users for programs, each bundle has one, who may read its files and no other bundle's, and change none;
 * without users the files stay where they are.
 */
export class Homes implements Closable {
  readonly #log: Log;
  /** By the folder of the bundle, those used last at the end. */
  readonly #lots = new Map<string, Lot>();
  #base: Promise<string> | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param users `undefined` where programs run as the runner's user */
  async open(bundle: string, users: (() => User) | undefined): Promise<Home> {
    const base = await this.#openBase();
    const lot = this.#lots.get(bundle) ?? createLot(base, bundle, users?.());
    lot.workers++;
    this.#lots.delete(bundle);
    this.#lots.set(bundle, lot);
    try {
      await lot.laid;
      const own = join(lot.folder, `home-${newId()}`);
      await mkdir(own, { mode: 0o700 });
      if (lot.user !== undefined) await chown(own, lot.user.uid, lot.user.gid);
      const folder = lot.user === undefined ? bundle : join(lot.folder, FILES);
      let leaving: Promise<void> | undefined;
      return { folder, own, user: lot.user, close: () => (leaving ??= this.#leave(lot, own)) };
    } catch (error) {
      this.#lots.delete(bundle);
      throw error;
    }
  }

  /** Removes everything: no program may run any more. */
  async close(): Promise<void> {
    const base = this.#base;
    this.#base = undefined;
    this.#lots.clear();
    if (base !== undefined) await this.#remove(await base);
  }

  async #openBase(): Promise<string> {
    try {
      return await (this.#base ??= openBase());
    } catch (error) {
      this.#base = undefined;
      throw error;
    }
  }

  async #leave(lot: Lot, own: string): Promise<void> {
    lot.workers--;
    await this.#remove(own);
    if (this.#lots.size <= KEPT) return;
    for (const [bundle, { folder, workers }] of this.#lots) {
      if (workers > 0) continue;
      this.#lots.delete(bundle);
      return this.#remove(folder);
    }
  }

  async #remove(folder: string): Promise<void> {
    try {
      await removeFolder(folder);
    } catch (error) {
      this.#log.warn({ err: error, folder }, 'what a program left cannot be removed');
    }
  }
}

const FILES = 'files';

function createLot(base: string, bundle: string, user: User | undefined): Lot {
  const folder = join(base, newId());
  return { folder, user, laid: layOut(folder, bundle, user), workers: 0 };
}

/** The folder of the lot is its user's alone, as the group that may go through it; the files are root's. */
async function layOut(folder: string, bundle: string, user: User | undefined): Promise<void> {
  await mkdir(folder, { mode: 0o700 });
  if (user === undefined) return;
  await copyFiles(bundle, join(folder, FILES));
  await chown(folder, 0, user.gid);
  await chmod(folder, 0o710);
}

/** Modes are set beside: what a call that makes a file is told is cut by the umask. */
async function copyFiles(from: string, to: string): Promise<void> {
  await mkdir(to);
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await copyFiles(source, target);
    else {
      await copyFile(source, target);
      const { mode } = await stat(source);
      await chmod(target, (mode & 0o111) === 0 ? READ_ONLY : EXECUTABLE);
    }
  }
}

/** Where homes are: `/tmp` is swept of what is old by many systems, however long a program runs. */
export const PLACES: readonly string[] = process.getuid?.() === 0 ? ['/var/lib', '/tmp'] : [tmpdir()];
const NAME = /^funcatron-programs-(\d+)-/;

/** A folder of this runner's, which others may go through; those of runners that were killed are removed. */
async function openBase(): Promise<string> {
  await Promise.all(PLACES.map(removeLeft));
  const base = await makeFolder(PLACES, `funcatron-programs-${process.pid}-`);
  await chmod(base, 0o711);
  return base;
}

/** In the first place where that can be done. */
async function makeFolder([place = '', ...others]: readonly string[], prefix: string): Promise<string> {
  try {
    return await mkdtemp(join(place, prefix));
  } catch (error) {
    if (others.length === 0) throw error;
    return makeFolder(others, prefix);
  }
}

async function removeLeft(place: string): Promise<void> {
  for (const name of await readdir(place).catch(() => [])) {
    const pid = Number(NAME.exec(name)?.[1]);
    if (Number.isNaN(pid) || isAlive(pid)) continue;
    const folder = join(place, name);
    try {
      if ((await lstat(folder)).uid === process.getuid?.()) await removeFolder(folder);
    } catch {
      // Another runner was first.
    }
  }
}

/** By `rm`, which a program that still runs cannot lead out of the folder with a link: Node's own looks first and goes then. */
async function removeFolder(folder: string): Promise<void> {
  await promisify(execFile)('/bin/rm', ['-rf', '--', folder], { env: {} });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
