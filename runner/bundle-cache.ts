import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { deflate } from 'node:zlib';
import { readArchive } from '../core/bundle/archive.ts';
import type { BundleRecord } from '../core/bundle/manifest.ts';
import type { Repository } from '../core/bundle/repository.ts';
import { FuncatronError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { type CodeCache, createCodeCache } from './code-cache.ts';
import { layFiles } from './runtimes/folder.ts';

/** Revisions kept on disk beside those that are held: those used last. */
const KEPT = 64;

const deflated = promisify(deflate);

/** What a runner needs of a bundle. */
export interface LoadedBundle {
  readonly record: BundleRecord;
  /** Empty for a bundle of programs. */
  readonly source: string;
  /** Deflated: three times the source otherwise, and read at an error only. */
  readonly sourceMap: Buffer | undefined;
  /** Of `source`; absent for a bundle of programs. */
  readonly codeCache?: CodeCache;
  /** Where the files of a bundle of programs lie, for these to read. */
  readonly folder?: string;
}

export interface BundleCacheOptions {
  readonly folder: string;
  readonly repository: Pick<Repository, 'archive'>;
  /** Digests that are in use, however many: they stay on the disk. */
  held(): ReadonlySet<string>;
  readonly log: Log;
}

/**
 * Bundles by digest: from the disk when they were here before, else from the store. Either way the content is proven
 * to be what its digest says. A runner that starts while the store is away serves what it has on disk.
 * @throws NOT_FOUND when nobody has the digest; DIGEST_MISMATCH; STORE_DOWN when it is not on disk either
 */
export async function loadBundle(options: BundleCacheOptions, digest: string): Promise<LoadedBundle> {
  const found = (await fromDisk(options, digest)) ?? (await fromStore(options, digest));
  if (found.record.manifest.runtime !== 'js') return loadPrograms(options, found);
  const source = found.files.get('bundle.js');
  if (source === undefined) {
    throw new FuncatronError('INVALID_BUNDLE', `the archive ${digest} holds no bundle.js`);
  }
  const map = found.files.get('bundle.js.map');
  return {
    record: found.record,
    source: source.toString(),
    sourceMap: map === undefined ? undefined : await deflated(map),
    codeCache: createCodeCache(join(options.folder, digest), options.log),
  };
}

/** Below the folder of its archive, so that it goes with that. */
async function loadPrograms(options: BundleCacheOptions, { record, files }: Found): Promise<LoadedBundle> {
  const folder = resolve(options.folder, record.digest, 'files');
  await layFiles(folder, files);
  return { record, source: '', sourceMap: undefined, folder };
}

interface Found {
  readonly record: BundleRecord;
  readonly files: ReadonlyMap<string, Buffer>;
}

async function fromDisk(options: BundleCacheOptions, digest: string): Promise<Found | undefined> {
  const folder = join(options.folder, digest);
  try {
    const record = JSON.parse(await readFile(join(folder, 'record.json'), 'utf8')) as BundleRecord;
    const archive = await readArchive(await readFile(join(folder, 'bundle.tgz')));
    if (archive.digest !== digest || record.digest !== digest) throw new Error(`content is ${archive.digest}`);
    await utimes(folder, new Date(), new Date());
    return { record, files: archive.files };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    options.log.warn({ err: error, folder }, 'cached bundle is damaged, fetching it again');
    await rm(folder, { recursive: true, force: true });
    return undefined;
  }
}

async function fromStore(options: BundleCacheOptions, digest: string): Promise<Found> {
  const stored = await options.repository.archive(digest);
  if (stored === undefined) {
    throw new FuncatronError('NOT_FOUND', `the store holds no bundle with digest ${digest}`);
  }
  try {
    await keep(options, digest, stored.record, stored.packed);
  } catch (error) {
    options.log.warn(
      { err: error, folder: options.folder },
      'cannot keep a bundle on disk; a start without the store would miss it',
    );
  }
  return stored;
}

/** Written beside and renamed, so that a folder under its digest is always whole. */
async function keep(options: BundleCacheOptions, digest: string, record: BundleRecord, packed: Buffer): Promise<void> {
  const { folder: dir } = options;
  const fresh = join(dir, `${digest}.${process.pid}.new`);
  await mkdir(fresh, { recursive: true, mode: 0o700 });
  await writeFile(join(fresh, 'record.json'), JSON.stringify(record));
  await writeFile(join(fresh, 'bundle.tgz'), packed);
  const folder = join(dir, digest);
  try {
    await rename(fresh, folder);
  } catch (error) {
    // Another runner on this machine was first.
    await rm(fresh, { recursive: true, force: true });
    if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
  await forgetOldest(dir, options.held());
}

async function forgetOldest(dir: string, held: ReadonlySet<string>): Promise<void> {
  const names = (await readdir(dir)).filter((name) => /^[0-9a-f]{64}$/.test(name) && !held.has(name));
  if (names.length <= KEPT) return;
  const aged = await Promise.all(names.map(async (name) => ({ name, usedAt: (await stat(join(dir, name))).mtimeMs })));
  aged.sort((a, b) => a.usedAt - b.usedAt);
  for (const { name } of aged.slice(0, names.length - KEPT))
    await rm(join(dir, name), { recursive: true, force: true });
}
