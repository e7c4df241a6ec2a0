import assert from 'node:assert/strict';
import { readdir, rm, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../../core/log.ts';
import { openStore } from '../../../core/store/open.ts';
import { callQueue } from '../../../core/wire/topology.ts';
import { createRecords } from '../../../frontend/records.ts';
import { Revision } from '../../../frontend/revision.ts';
import { createRouteTables, paramsOf, type RouteTable } from '../../../frontend/route-table.ts';
import { sendSnapshot, snapshotOf, storeSnapshot, testBundle, type TestBundle } from '../../helpers/live-bundle.ts';
import { openResponder } from '../../helpers/responder.ts';
import { openTestFrontend, type TestFrontend } from '../../helpers/test-frontend.ts';
import { until } from '../../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });
const ID = {
  name: 'id',
  in: 'path',
  required: true,
  schema: { type: 'string' },
  style: 'simple',
  explode: false,
} as const;
const GET_ID = { operationId: 'get', method: 'GET', path: '/items/{id}', parameters: [ID] } as const;

function held(...bundles: readonly TestBundle[]): ReadonlyMap<string, Revision> {
  const revisions = new Map<string, Revision>();
  for (const { state, record } of bundles) {
    const revisionState = state.revisions.find(({ revision }) => revision === record.revision);
    assert.ok(revisionState !== undefined);
    const revision = new Revision(state.name, revisionState, record);
    revisions.set(revision.key, revision);
  }
  return revisions;
}

describe('frontend/route-table', () => {
  it('shares the calls of a route among revisions by weight', () => {
    const old = testBundle({ revision: 'aaaaaaaaaaaa', operations: [GET_ID] });
    const canary = testBundle({ revision: 'bbbbbbbbbbbb', operations: [GET_ID] });
    const bundle = { ...old.state, weights: { aaaaaaaaaaaa: 90, bbbbbbbbbbbb: 10 } };
    const table = createRouteTables()('1.1', [bundle], held(old, canary));
    const match = table.router.match(undefined, 'GET', '/items/1');
    assert.ok(match.kind === 'found');
    const counts = new Map<string, number>();
    for (let n = 0; n < 2_000; n++) {
      const { key } = match.value.choose().operation.revision;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const share = counts.get('orders@bbbbbbbbbbbb') ?? 0;
    assert.ok(share > 100 && share < 320, `about 200 of 2000, not ${share}`);
  });

  it('sends a route that only one of the revisions has to that one', () => {
    const old = testBundle({ revision: 'aaaaaaaaaaaa', operations: [GET_ID] });
    const added = { operationId: 'add', method: 'POST', path: '/items' };
    const canary = testBundle({ revision: 'bbbbbbbbbbbb', operations: [added, GET_ID] });
    const bundle = { ...old.state, weights: { aaaaaaaaaaaa: 99, bbbbbbbbbbbb: 1 } };
    const { router } = createRouteTables()('1.1', [bundle], held(old, canary));
    const match = router.match(undefined, 'POST', '/items');
    assert.ok(match.kind === 'found');
    const { operation } = match.value.choose();
    assert.deepEqual([operation.revision.key, operation.index], ['orders@bbbbbbbbbbbb', 0]);
  });

  it('gives each revision the path parameters by its own names', () => {
    const old = testBundle({ revision: 'aaaaaaaaaaaa', operations: [GET_ID] });
    const renamed = testBundle({ revision: 'bbbbbbbbbbbb', operations: [{ ...GET_ID, path: '/items/{itemId}' }] });
    const bundle = { ...old.state, weights: { aaaaaaaaaaaa: 1, bbbbbbbbbbbb: 1_000_000 } };
    const { router } = createRouteTables()('1.1', [bundle], held(old, renamed));
    const match = router.match(undefined, 'GET', '/items/7');
    assert.ok(match.kind === 'found');
    const option = match.value.choose();
    assert.deepEqual(paramsOf(option, match.params), { itemId: '7' });
  });

  it('has no routes of revisions without weight, or that are not held', () => {
    const bundle = testBundle({ operations: [GET_ID], weights: { aaaaaaaaaaaa: 0, cccccccccccc: 1 } });
    const table = createRouteTables()('1.1', [bundle.state], held(bundle));
    assert.deepEqual(table.revisions, []);
    assert.equal(table.router.match(undefined, 'GET', '/items/1').kind, 'none');
  });

  it('tells bundles apart by host, and lets the one with a host go before', () => {
    const anywhere = testBundle({ name: 'a', operations: [GET_ID] });
    const somewhere = testBundle({ name: 'b', host: 'shop.test', operations: [GET_ID] });
    const { router } = createRouteTables()('1.1', [anywhere.state, somewhere.state], held(anywhere, somewhere));
    const bundleAt = (host: string): string | undefined => {
      const match = router.match(host, 'GET', '/items/1');
      return match.kind === 'found' ? match.value.choose().operation.revision.bundle : undefined;
    };
    assert.deepEqual([bundleAt('shop.test:8080'), bundleAt('SHOP.test'), bundleAt('other')], ['b', 'b', 'a']);
  });
});

describe('frontend/route-table, from one table to the next', () => {
  const pathOf = (table: RouteTable, path: string): string | undefined => {
    const match = table.router.match(undefined, 'GET', path);
    return match.kind === 'found' ? match.value.choose().operation.revision.key : undefined;
  };

  it('follows bundles that come, change and go', () => {
    const tables = createRouteTables();
    const first = testBundle({ name: 'a', basePath: '/a', operations: [GET_ID] });
    const second = testBundle({ name: 'b', basePath: '/b', operations: [GET_ID] });
    const moved = testBundle({ name: 'a', basePath: '/c', revision: 'bbbbbbbbbbbb', operations: [GET_ID] });
    const all = held(first, second, moved);
    const before = tables('1.1', [first.state, second.state], all);
    assert.deepEqual(
      [pathOf(before, '/a/items/1'), pathOf(before, '/b/items/1')],
      ['a@aaaaaaaaaaaa', 'b@aaaaaaaaaaaa'],
    );
    const after = tables('1.2', [moved.state], all);
    const paths = ['/a/items/1', '/b/items/1', '/c/items/1'];
    assert.deepEqual(
      paths.map((path) => pathOf(after, path)),
      [undefined, undefined, 'a@bbbbbbbbbbbb'],
    );
    assert.deepEqual(
      after.revisions.map(({ key }) => key),
      ['a@bbbbbbbbbbbb'],
    );
  });

  it('moves a route from one bundle to another in one step', () => {
    const tables = createRouteTables();
    const old = testBundle({ name: 'b', operations: [GET_ID] });
    const next = testBundle({ name: 'a', operations: [GET_ID] });
    const all = held(old, next);
    tables('1.1', [old.state], all);
    assert.equal(pathOf(tables('1.2', [next.state], all), '/items/1'), 'a@aaaaaaaaaaaa');
  });

  it('takes new weights of the same revisions', () => {
    const tables = createRouteTables();
    const old = testBundle({ revision: 'aaaaaaaaaaaa', operations: [GET_ID] });
    const canary = testBundle({ revision: 'bbbbbbbbbbbb', operations: [GET_ID] });
    const all = held(old, canary);
    const [first, second] = [{ aaaaaaaaaaaa: 100 }, { bbbbbbbbbbbb: 100 }].map((weights, index) =>
      tables(`1.${index}`, [{ ...old.state, weights }], all),
    );
    assert.ok(first !== undefined && second !== undefined);
    assert.equal(pathOf(second, '/items/1'), 'orders@bbbbbbbbbbbb');
    assert.notEqual(first.revisions, second.revisions);
    assert.equal(tables('1.3', [{ ...old.state, weights: { bbbbbbbbbbbb: 100 } }], all).revisions, second.revisions);
  });
});

describe('frontend/records', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'records-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('keeps what it read on disk, and serves it when the store has gone', async () => {
    const { record } = testBundle({ operations: [GET_ID] });
    const store = await openStore('sqlite:', { dataDir: folder, log, role: 'test' });
    const records = createRecords({ store, folder: join(folder, 'records'), log });
    await assert.rejects(records.get(record.digest), { code: 'NOT_FOUND' });
    await store.set(`bundle/${record.digest}/record`, JSON.stringify(record));
    assert.deepEqual(await records.get(record.digest), record);
    await store.delete(`bundle/${record.digest}/record`);
    assert.deepEqual(await records.get(record.digest), record);
    await records.keepOnly(new Set([record.digest]));
    assert.deepEqual(await readdir(join(folder, 'records')), [`${record.digest}.json`]);
    await records.keepOnly(new Set());
    assert.deepEqual(await readdir(join(folder, 'records')), []);
    await store.close();
    await assert.rejects(records.get(record.digest), { code: 'STORE_DOWN' });
  });
});

describe('frontend/routes', () => {
  let test: TestFrontend | undefined;
  const folders: string[] = [];
  afterEach(async () => {
    await test?.close();
    test = undefined;
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });

  it('starts from its disk when Tron says nothing and the store has forgotten everything', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'frontend-'));
    folders.push(dataDir);
    const bundle = testBundle({ operations: [GET_ID] });
    test = await openTestFrontend({ bundles: [bundle], dataDir });
    await test.close();
    await rm(join(dataDir, 'store.sqlite'));
    test = await openTestFrontend({ dataDir });
    await openResponder(test.broker, callQueue('orders', 'aaaaaaaaaaaa'));
    await until('it is ready', async () => (await test?.reasons())?.length === 0);
    assert.equal((await test.fetch('/items/1')).status, 200);
  });

  it('keeps the old routes of a bundle whose new ones cannot be loaded, says so, and loads them once it can', async () => {
    const old = testBundle({ operations: [GET_ID] });
    test = await openTestFrontend({ bundles: [old] });
    await openResponder(test.broker, callQueue('orders', 'aaaaaaaaaaaa'));
    const next = testBundle({
      revision: 'bbbbbbbbbbbb',
      operations: [{ operationId: 'get', method: 'GET', path: '/things/{id}' }],
    });
    await test.route(snapshotOf('1.2', next));
    assert.match(test.report.failures['orders'] ?? '', /no record of digest bbbb/);
    assert.equal((await test.fetch('/items/1')).status, 200);
    assert.equal((await test.fetch('/things/1')).status, 404);
    await openResponder(test.broker, callQueue('orders', 'bbbbbbbbbbbb'));
    await storeSnapshot(test.store, snapshotOf('1.2', next), next);
    await until('the new routes are there', async () => (await test?.fetch('/things/1'))?.status === 200);
    assert.equal((await test.fetch('/items/1')).status, 404);
    await until('it says so', () => test?.report.failures['orders'] === undefined);
  });

  it('follows a bundle that is called constructor', async () => {
    const old = testBundle({ name: 'constructor', operations: [GET_ID] });
    test = await openTestFrontend({ bundles: [old] });
    const next = testBundle({ name: 'constructor', operations: [{ ...GET_ID, path: '/things/{id}' }], weights: {} });
    assert.notEqual((await test.fetch('/items/1')).status, 404);
    await test.route(snapshotOf('1.2', next), next);
    assert.equal((await test.fetch('/items/1')).status, 404);
  });

  it('ignores an older snapshot', async () => {
    const bundle = testBundle({ operations: [GET_ID] });
    test = await openTestFrontend({ bundles: [bundle] });
    await test.route(snapshotOf('1.5', bundle), bundle);
    await sendSnapshot(test.broker, snapshotOf('1.4'));
    await test.route(snapshotOf('1.6', bundle), bundle);
    assert.notEqual((await test.fetch('/items/1')).status, 404);
  });

  it('swaps revisions under load without a failed call, and reports what drains', async () => {
    const old = testBundle({ operations: [GET_ID] });
    test = await openTestFrontend({ bundles: [old] });
    const first = await openResponder(test.broker, callQueue('orders', 'aaaaaaaaaaaa'), ({ meta }) =>
      meta.params?.['id'] === 'slow' ? undefined : { body: '"old"' },
    );
    await openResponder(test.broker, callQueue('orders', 'bbbbbbbbbbbb'), () => ({ body: '"new"' }));
    const slow = test.fetch('/items/slow');
    await until('the slow call came', () => first.calls.length === 1);
    const next = testBundle({ revision: 'bbbbbbbbbbbb', operations: [GET_ID] });
    const seen: string[] = [];
    let isSwapped = false;
    const { frontend } = test;
    const traffic = Array.from({ length: 8 }, async () => {
      for (let after = 0; after < 5; after += isSwapped ? 1 : 0) {
        const response = await fetch(`${frontend.url}/items/1`);
        seen.push(`${response.status} ${await response.text()}`);
      }
    });
    await until('some went to the old one', () => seen.length > 50);
    await test.route(snapshotOf('1.2', next), next);
    isSwapped = true;
    await Promise.all(traffic);
    assert.deepEqual([...new Set(seen)].sort(), ['200 "new"', '200 "old"']);
    assert.deepEqual(
      seen.slice(-8),
      Array.from({ length: 8 }, () => '200 "new"'),
    );
    await until('only the slow call is in flight', () => test?.report.inFlight['orders@aaaaaaaaaaaa'] === 1, 3_000);
    const [call] = first.calls;
    assert.ok(call !== undefined);
    await first.reply(call);
    assert.equal((await slow).status, 200);
    await until('nothing drains any more', () => test?.report.inFlight['orders@aaaaaaaaaaaa'] === undefined);
  });
});
