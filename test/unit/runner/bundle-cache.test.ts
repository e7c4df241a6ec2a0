import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRepository } from '../../../core/bundle/repository.ts';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import { loadBundle } from '../../../runner/bundle-cache.ts';
import { silent, storeBundle } from './test-runner.ts';

describe('runner/bundle-cache', () => {
  it('keeps what is held on the disk, however old it is, and so many of the others', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-bundles-'));
    const store = await openSqliteStore({ file: join(folder, 'store.sqlite'), log: silent });
    try {
      const held = new Set<string>();
      const options = { folder, repository: createRepository(store), log: silent, held: () => held };
      const digests: string[] = [];
      for (let index = 0; index < 68; index++) {
        const { record } = await storeBundle(store, { name: `b${index}`, operations: [{ operationId: 'run' }] });
        digests.push(record.digest);
        if (index < 3) held.add(record.digest);
        await loadBundle(options, record.digest);
      }
      const gone = digests.filter((digest) => !existsSync(join(folder, digest)));
      assert.deepEqual([gone.length, gone.some((digest) => held.has(digest))], [1, false]);
    } finally {
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
