import { mkdir, readdir, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BundleRecord } from '../core/bundle/manifest.ts';
import { createRepository } from '../core/bundle/repository.ts';
import { FuncatronError } from '../core/errors.ts';
import { newId } from '../core/id.ts';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';

/** Records of revisions by digest: from the disk, else from the store, kept on disk from then on. */
export interface Records {
  /** @throws NOT_FOUND when the store does not have it, STORE_DOWN */
  get(digest: string): Promise<BundleRecord>;
  /** Removes every other record from the disk. */
  keepOnly(digests: ReadonlySet<string>): Promise<void>;
}

/** Records kept in `folder`: what has a digest never changes, so a frontend starts from it while Tron and store are down. */
export function createRecords(options: { store: Store; folder: string; log: Log }): Records {
  const { folder, log } = options;
  const repository = createRepository(options.store);

  async function fromDisk(digest: string): Promise<BundleRecord | undefined> {
    try {
      const record = JSON.parse(await readFile(join(folder, `${digest}.json`), 'utf8')) as BundleRecord;
      return record.digest === digest ? record : undefined;
    } catch {
      return undefined; // Not there or damaged: the store has it.
    }
  }

  async function toDisk(record: BundleRecord): Promise<void> {
    const temporary = join(folder, `${newId()}.new`);
    try {
      await mkdir(folder, { recursive: true });
      await writeFile(temporary, JSON.stringify(record), { mode: 0o600 });
      await rename(temporary, join(folder, `${record.digest}.json`));
    } catch (error) {
      log.warn({ err: error, folder }, 'cannot keep a record; a start without the store would not serve its bundle');
    }
  }

  return {
    async get(digest) {
      const cached = await fromDisk(digest);
      if (cached !== undefined) return cached;
      const record = await repository.record(digest);
      if (record === undefined) throw new FuncatronError('NOT_FOUND', `the store has no record of digest ${digest}`);
      await toDisk(record);
      return record;
    },
    async keepOnly(digests) {
      const names = await readdir(folder).catch(() => []); // No folder yet: nothing to remove.
      const stale = names.filter((name) => name.endsWith('.json') && !digests.has(name.slice(0, -'.json'.length)));
      // Another frontend on this machine may have removed it first.
      await Promise.all(stale.map((name) => unlink(join(folder, name)).catch(() => undefined)));
    },
  };
}
