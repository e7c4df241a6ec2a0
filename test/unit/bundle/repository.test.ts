import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { packArchive } from '../../../core/bundle/archive.ts';
import { CHUNK_BYTES, createRepository, type Repository } from '../../../core/bundle/repository.ts';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import type { Store } from '../../../core/store/store.ts';
import { StoreKey } from '../../../core/wire/control.ts';
import { testBundle } from '../../helpers/live-bundle.ts';

describe('core/bundle/repository', () => {
  let folder: string;
  let store: Store;
  let repository: Repository;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'funcatron-repository-'));
    store = await openSqliteStore({ file: join(folder, 'store.sqlite'), log: pino({ level: 'silent' }) });
    repository = createRepository(store);
  });
  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true });
  });

  async function put(contentBytes: number) {
    const packed = await packArchive(new Map([['bundle.js', randomBytes(contentBytes)]]));
    const { archiveBytes: _bytes, chunks: _chunks, ...partial } = testBundle({ operations: [] }).record;
    const record = { ...partial, digest: packed.digest, revision: packed.revision };
    return { ...packed, record, stored: await repository.putArchive(record, packed.archive) };
  }

  it('gives back what was put, in pieces of 512 KiB', async () => {
    const { archive, digest, stored } = await put(2.5 * CHUNK_BYTES);
    assert.equal(stored.archiveBytes, archive.length);
    assert.equal(stored.chunks, 3);
    assert.deepEqual(await repository.record(digest), stored);
    const found = await repository.archive(digest);
    assert.deepEqual(found?.packed, archive);
    assert.deepEqual([...found.files.keys()], ['bundle.js']);
    assert.deepEqual(await repository.records(), [stored]);
  });

  it('knows nothing of a digest whose record is not there yet: half an upload is invisible', async () => {
    const { digest } = await put(100);
    await store.delete(StoreKey.record(digest));
    assert.equal(await repository.has(digest), false);
    assert.equal(await repository.record(digest), undefined);
    assert.equal(await repository.archive(digest), undefined);
    assert.deepEqual(await repository.records(), []);
  });

  it('does not write a known digest again', async () => {
    const { record, stored } = await put(100);
    const again = await repository.putArchive({ ...record, createdAt: 1 }, Buffer.from('other bytes'));
    assert.deepEqual(again, stored);
    assert.notEqual(await repository.archive(record.digest), undefined);
  });

  it('refuses a stored archive with DIGEST_MISMATCH when a piece is missing, damaged or of another bundle', async () => {
    const one = await put(CHUNK_BYTES + 1);
    const other = await put(CHUNK_BYTES + 1);
    const last = StoreKey.chunk(one.digest, 1);
    const good = (await store.get(last)) ?? Buffer.alloc(0);
    const refusal = { code: 'DIGEST_MISMATCH' };
    await store.delete(last);
    await assert.rejects(repository.archive(one.digest), refusal);
    await store.set(last, Buffer.alloc(good.length, 1));
    await assert.rejects(repository.archive(one.digest), refusal);
    await store.set(last, good);
    await repository.archive(one.digest);
    for (const n of [0, 1]) {
      const piece = await store.get(StoreKey.chunk(other.digest, n));
      await store.set(StoreKey.chunk(one.digest, n), piece ?? '');
    }
    await assert.rejects(repository.archive(one.digest), refusal);
  });

  it('leaves nothing behind when a digest is deleted, and takes the digest again', async () => {
    const { digest, record, archive } = await put(2 * CHUNK_BYTES);
    await repository.delete(digest);
    await repository.delete(digest);
    assert.deepEqual(await store.keys('bundle/'), []);
    await repository.putArchive(record, archive);
    assert.equal(await repository.has(digest), true);
  });
});
