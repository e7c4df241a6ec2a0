import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import type { Store } from '../../../core/store/store.ts';
import { runKv } from '../../../runner/services/kv.ts';
import { until } from '../../helpers/until.ts';
import { silent } from './test-runner.ts';

describe('runner/services/kv', () => {
  let folder: string;
  let store: Store;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-kv-'));
    store = await openSqliteStore({ file: join(folder, 'store.sqlite'), log: silent });
  });
  afterEach(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  async function kv(name: string, args: Readonly<Record<string, unknown>>, bundle = 'shop'): Promise<unknown> {
    return (await runKv(store, bundle, { name: `kv.${name}`, args, bytes: Buffer.alloc(0) })).result;
  }

  it('gives back what was set, and nothing once it is deleted', async () => {
    assert.deepEqual(await kv('get', { key: 'a' }), {});
    assert.deepEqual(await kv('set', { key: 'a', value: '{"n":1}' }), {});
    assert.deepEqual(await kv('get', { key: 'a' }), { value: '{"n":1}' });
    assert.deepEqual(await kv('delete', { key: 'a' }), { deleted: true });
    assert.deepEqual(await kv('delete', { key: 'a' }), { deleted: false });
    assert.deepEqual(await kv('get', { key: 'a' }), {});
  });

  it('keeps the keys of each bundle to itself', async () => {
    await kv('set', { key: 'a', value: '1' });
    assert.deepEqual(await kv('get', { key: 'a' }, 'other'), {});
  });

  it('counts from 0, atomically, and the count reads as JSON', async () => {
    await Promise.all([kv('increment', { key: 'n', by: 1 }), kv('increment', { key: 'n', by: 5 })]);
    assert.deepEqual(await kv('increment', { key: 'n', by: -2 }), { value: 4 });
    assert.deepEqual(await kv('get', { key: 'n' }), { value: '4' });
  });

  it('forgets a value after its ttl', async () => {
    await kv('set', { key: 'a', value: '1', ttlMs: 30 });
    await until('it is gone', async () => Object.keys((await kv('get', { key: 'a' })) as object).length === 0);
  });

  it('refuses keys, values, ttls and sums out of bounds with INVALID_REQUEST', async () => {
    const wrong: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
      ['get', { key: '' }],
      ['get', { key: 'k'.repeat(513) }],
      ['get', { key: 7 }],
      ['set', { key: 'a' }],
      ['set', { key: 'a', value: `"${'x'.repeat(256 * 1024)}"` }],
      ['set', { key: 'a', value: '1', ttlMs: 0 }],
      ['set', { key: 'a', value: '1', ttlMs: 1.5 }],
      ['increment', { key: 'a', by: 0.5 }],
      ['rename', { key: 'a' }],
    ];
    for (const [name, args] of wrong) {
      await assert.rejects(kv(name, args), { code: 'INVALID_REQUEST' }, `${name} ${JSON.stringify(args).slice(0, 60)}`);
    }
    await kv('set', { key: 'k'.repeat(512), value: '1' });
  });
});
