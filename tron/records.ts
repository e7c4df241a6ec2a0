import { LRUCache } from 'lru-cache';
import type { BundleRecord } from '../core/bundle/manifest.ts';
import type { Repository } from '../core/bundle/repository.ts';

/** Records kept in memory; what is under a digest never changes. */
const MAX_RECORDS = 200;

/** The same repository, with the records read last in memory. */
export function withRecordCache(repository: Repository): Repository {
  const records = new LRUCache<string, BundleRecord>({ max: MAX_RECORDS });
  const keep = (record: BundleRecord | undefined): void => {
    if (record !== undefined) records.set(record.digest, record);
  };
  return {
    ...repository,
    async putArchive(partial, packed) {
      const record = await repository.putArchive(partial, packed);
      keep(record);
      return record;
    },
    async record(digest) {
      const known = records.get(digest) ?? (await repository.record(digest));
      keep(known);
      return known;
    },
    async delete(digest) {
      records.delete(digest);
      await repository.delete(digest);
    },
  };
}
