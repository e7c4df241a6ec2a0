import assert from 'node:assert/strict';
import type { BundleRecord } from '../../../core/bundle/manifest.ts';
import { startChange } from '../../../tron/bundle-entry.ts';
import { routeKeys, RouteIndex } from '../../../tron/conflicts.ts';
import {
  addRevision,
  dropBundle,
  EMPTY_REGISTRY,
  putBundle,
  requireBundle,
  type RegistryState,
} from '../../../tron/registry.ts';
import { testBundle, type TestBundleOptions } from '../../helpers/live-bundle.ts';

const GET_ID = { operationId: 'get', method: 'GET', path: '/items/{id}' } as const;
const [A, B] = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb'] as const;

/** Records by digest, which counts how often it is asked. */
class Records {
  readonly reads: string[] = [];
  readonly #records = new Map<string, BundleRecord>();

  add(state: RegistryState, options: TestBundleOptions): RegistryState {
    const { record } = testBundle(options);
    // A digest of its own for each bundle.
    const own = { ...record, digest: `${record.manifest.name}-${record.digest}` };
    this.#records.set(own.digest, own);
    return addRevision(state, own);
  }

  async record(digest: string): Promise<BundleRecord | undefined> {
    this.reads.push(digest);
    return this.#records.get(digest);
  }
}

function live(state: RegistryState, name: string, revision: string): RegistryState {
  return putBundle(state, { ...requireBundle(state, name), live: { [revision]: 100 } });
}

function changing(state: RegistryState, name: string, revision: string): RegistryState {
  const change = { command: 'c', kind: 'deploy', target: { [revision]: 100 }, startedAt: 1, purge: false } as const;
  return putBundle(state, startChange(requireBundle(state, name), change));
}

describe('tron/conflicts', () => {
  it('tells routes apart by host, method and template, whatever its parameters are called', () => {
    const operation = (method: string, path: string) => ({ operationId: method + path, method, path });
    const keys = (host: string | undefined, ...operations: ReturnType<typeof operation>[]) =>
      routeKeys(testBundle({ ...(host === undefined ? {} : { host }), basePath: '/b', operations }).record.api);
    assert.deepEqual(keys(undefined, operation('GET', '/a/{id}')), keys(undefined, operation('GET', '/a/{name}')));
    const all = [
      ...keys(undefined, operation('GET', '/a/{id}'), operation('PUT', '/a/{id}'), operation('GET', '/a/id')),
      ...keys('a.example', operation('GET', '/a/{id}')),
    ];
    assert.equal(new Set(all).size, 4);
  });

  it('leaves out what only the queue reaches', () => {
    const { record } = testBundle({ operations: [{ operationId: 'a', method: 'POST', path: '/a', http: false }] });
    assert.deepEqual(routeKeys(record.api), []);
  });

  it('refuses routes that another bundle has, be they live or about to be', async () => {
    const records = new Records();
    const routes = new RouteIndex(records);
    const both = records.add(records.add(EMPTY_REGISTRY, { name: 'a', operations: [GET_ID] }), {
      name: 'b',
      operations: [GET_ID],
    });
    const conflict = { code: 'ROUTE_CONFLICT', message: 'bundle a already answers GET any-host/items/{}' };
    await assert.rejects(routes.check(changing(live(both, 'a', A), 'b', A), 'b'), conflict);
    await assert.rejects(routes.check(changing(changing(both, 'a', A), 'b', A), 'b'), conflict);
    await routes.check(changing(both, 'b', A), 'b');
  });

  it('lets a bundle keep its own routes, and take those that another has given up', async () => {
    const records = new Records();
    const routes = new RouteIndex(records);
    let state = records.add(EMPTY_REGISTRY, { name: 'a', operations: [GET_ID] });
    state = records.add(state, { name: 'a', revision: B, operations: [GET_ID] });
    state = live(records.add(state, { name: 'b', operations: [GET_ID] }), 'a', A);
    await routes.check(changing(state, 'a', B), 'a');
    await assert.rejects(routes.check(changing(state, 'b', A), 'b'), { code: 'ROUTE_CONFLICT' });
    await routes.check(changing(dropBundle(state, 'a'), 'b', A), 'b');
  });

  it('reads nothing of bundles that have not changed since the last time', async () => {
    const records = new Records();
    const routes = new RouteIndex(records);
    let state = EMPTY_REGISTRY;
    for (const name of ['a', 'b', 'c']) {
      state = records.add(state, { name, basePath: `/${name}`, operations: [GET_ID] });
      state = live(state, name, A);
    }
    await routes.check(state, 'a');
    records.reads.length = 0;
    await routes.check(changing(state, 'b', A), 'b');
    assert.ok(
      records.reads.every((digest) => digest.startsWith('b-')),
      records.reads.join(),
    );
  });
});
