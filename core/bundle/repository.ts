import { FuncatronError } from '../errors.ts';
import type { Store } from '../store/store.ts';
import { StoreKey } from '../wire/control.ts';
import { readArchive } from './archive.ts';
import type { BundleRecord } from './manifest.ts';

/** Bytes of one piece of an archive in the store: small enough that no single command blocks Redis for long. */
export const CHUNK_BYTES = 512 * 1024;

/** An archive as it came out of the store, proven to be what its digest says. */
export interface StoredArchive {
  readonly record: BundleRecord;
  /** The packed archive, as it was uploaded. */
  readonly packed: Buffer;
  /** Its files by name. */
  readonly files: ReadonlyMap<string, Buffer>;
}

/** Bundles by digest, in the store. What is under a digest never changes, so everything here may be cached. */
export interface Repository {
  /**
   * Stores an archive and its record, which is written last: a half upload is not there for anybody. Does nothing
   * when the digest is known.
   * @throws STORE_DOWN
   */
  putArchive(record: Omit<BundleRecord, 'archiveBytes' | 'chunks'>, packed: Buffer): Promise<BundleRecord>;
  /** @throws STORE_DOWN */
  record(digest: string): Promise<BundleRecord | undefined>;
  /**
   * The archive, verified, or `undefined` when the digest is not known.
   * @throws DIGEST_MISMATCH when pieces are missing or the content is not what the digest says, STORE_DOWN
   */
  archive(digest: string): Promise<StoredArchive | undefined>;
  /** @throws STORE_DOWN */
  has(digest: string): Promise<boolean>;
  /** Removes the record first, so that nobody finds half an archive. @throws STORE_DOWN */
  delete(digest: string): Promise<void>;
  /** Every record there is, by digest. @throws STORE_DOWN */
  records(): Promise<readonly BundleRecord[]>;
}

/** The repository in this store. */
export function createRepository(store: Store): Repository {
  async function record(digest: string): Promise<BundleRecord | undefined> {
    const bytes = await store.get(StoreKey.record(digest));
    return bytes === undefined ? undefined : (JSON.parse(bytes.toString()) as BundleRecord);
  }

  return {
    record,

    async putArchive(partial, packed) {
      const known = await record(partial.digest);
      if (known !== undefined) return known;
      const pieces: Promise<boolean>[] = [];
      for (let start = 0; start < packed.length; start += CHUNK_BYTES) {
        const key = StoreKey.chunk(partial.digest, pieces.length);
        pieces.push(store.set(key, packed.subarray(start, start + CHUNK_BYTES)));
      }
      await Promise.all(pieces);
      const complete = { ...partial, archiveBytes: packed.length, chunks: pieces.length };
      await store.set(StoreKey.record(partial.digest), JSON.stringify(complete));
      return complete;
    },

    async archive(digest) {
      const found = await record(digest);
      if (found === undefined) return undefined;
      const keys = Array.from({ length: found.chunks }, (_, n) => StoreKey.chunk(digest, n));
      const pieces = await Promise.all(keys.map((key) => store.get(key)));
      const packed = Buffer.concat(pieces.map((piece) => piece ?? Buffer.alloc(0)));
      if (packed.length !== found.archiveBytes) {
        throw damaged(digest, `${packed.length} of its ${found.archiveBytes} bytes are there`);
      }
      const content = await readArchive(packed).catch((cause: unknown) => {
        throw damaged(digest, 'it cannot be read', cause);
      });
      if (content.digest !== digest) throw damaged(digest, `its content is ${content.digest}`);
      return { record: found, packed, files: content.files };
    },

    async has(digest) {
      return (await store.get(StoreKey.record(digest))) !== undefined;
    },

    async delete(digest) {
      const found = await record(digest);
      if (found === undefined) return;
      await store.delete(StoreKey.record(digest));
      await store.delete(...Array.from({ length: found.chunks }, (_, n) => StoreKey.chunk(digest, n)));
    },

    async records() {
      const keys = (await store.keys('bundle/')).filter((key) => key.endsWith('/record'));
      const values = await Promise.all(keys.map((key) => store.get(key)));
      return values.flatMap((bytes) => (bytes === undefined ? [] : [JSON.parse(bytes.toString()) as BundleRecord]));
    },
  };
}

function damaged(digest: string, what: string, cause?: unknown): FuncatronError {
  return new FuncatronError('DIGEST_MISMATCH', `the stored archive ${digest} is damaged: ${what}`, {
    cause,
    data: { hint: 'delete the bundle and deploy it again' },
  });
}
