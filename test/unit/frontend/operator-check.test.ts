import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { rm, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../../core/log.ts';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import type { Store } from '../../../core/store/store.ts';
import { StoreKey } from '../../../core/wire/control.ts';
import { createOperatorCheck } from '../../../frontend/operator-check.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('frontend/operator-check', () => {
  let folder: string;
  let store: Store;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'operator-'));
    store = await openSqliteStore({ file: join(folder, 'store.sqlite'), log });
  });
  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  });

  const keep = (token: string) => store.set(StoreKey.tokenHash, createHash('sha256').update(token).digest('hex'));

  it('knows the token by the hash in the store', async () => {
    await keep('right');
    const check = createOperatorCheck({ store, given: '', log });
    assert.equal(await check.isOperator('Bearer right'), true);
    assert.equal(await check.isOperator('bearer right'), true);
    for (const header of [undefined, '', 'right', 'Basic right', 'Bearer wrong', 'Bearer right ', 'Bearer ']) {
      assert.equal(await check.isOperator(header), false, String(header));
    }
  });

  it('takes the token the operator gave before the one of the store', async () => {
    await keep('stored');
    const check = createOperatorCheck({ store, given: 'given', log });
    assert.deepEqual([await check.isOperator('Bearer given'), await check.isOperator('Bearer stored')], [true, false]);
  });

  it('knows nobody while the store holds no token or does not answer', async () => {
    const check = createOperatorCheck({ store, given: '', log });
    assert.equal(await check.isOperator('Bearer any'), false);
    const failing = createOperatorCheck({ store, given: '', log });
    await store.close();
    assert.equal(await failing.isOperator('Bearer any'), false);
  });
});
