import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createLog } from '../../../core/log.ts';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import type { Store } from '../../../core/store/store.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/store/sqlite', () => {
  let folder: string;
  let file: string;
  let store: Store;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'funcatron-sqlite-'));
    file = join(folder, 'data', 'store.sqlite');
    store = await openSqliteStore({ file, log });
  });
  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true });
  });

  it('makes its folder for its owner only, and keeps values over a restart', async () => {
    await store.set('k', 'v');
    await store.acquireLease('lease', 'me', 60_000);
    await store.close();
    assert.equal((await stat(join(folder, 'data'))).mode & 0o077, 0);
    store = await openSqliteStore({ file, log });
    assert.equal(String(await store.get('k')), 'v');
    assert.equal(await store.acquireLease('lease', 'other', 60_000), false);
  });

  it('says STORE_DOWN while another process holds the file for writing, and works again afterwards', async () => {
    const other = new DatabaseSync(file);
    other.exec('BEGIN IMMEDIATE');
    await assert.rejects(store.set('k', 'v'), { code: 'STORE_DOWN', message: /could not set "k": .*locked/ });
    assert.equal(store.isUp, false);
    assert.equal(await store.get('k'), undefined, 'reading goes on');
    other.exec('ROLLBACK');
    other.close();
    assert.equal(await store.set('k', 'v'), true);
    assert.equal(store.isUp, true);
  });

  it('leaves nothing half done when a transaction fails', async () => {
    await store.set('a', '1');
    await store.set('b', '1');
    const other = new DatabaseSync(file);
    other.exec("CREATE TRIGGER guard BEFORE DELETE ON entry WHEN old.key = 'b' BEGIN SELECT RAISE(FAIL, 'no'); END");
    await assert.rejects(store.delete('a', 'b'), { code: 'STORE_DOWN' });
    other.exec('DROP TRIGGER guard');
    other.close();
    assert.equal(String(await store.get('a')), '1');
    assert.equal(await store.delete('a', 'b'), 2);
  });

  it('says STORE_DOWN for a file that is no database', async () => {
    await assert.rejects(openSqliteStore({ file: import.meta.filename, log }), { code: 'STORE_DOWN' });
  });
});
