import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';
import { usePostgres } from '../../../test/helpers/servers/postgres.ts';

describe('bundles/orders', () => {
  const postgres = usePostgres();
  let cluster: EmbeddedCluster;
  let secretsDir: string;
  before(async function () {
    this.timeout(60_000);
    secretsDir = mkdtempSync(join(tmpdir(), 'funcatron-orders-'));
    writeFileSync(join(secretsDir, 'ORDERS_DB_URL'), postgres.server().url, { mode: 0o600 });
    cluster = await openEmbedded({ secretsDir });
    await cluster.deploy('bundles/orders');
  });
  after(async () => {
    await cluster?.close();
    rmSync(secretsDir, { recursive: true, force: true });
  });

  function send(method: string, path: string, body?: unknown): Promise<Response> {
    const headers = { 'content-type': 'application/json' };
    const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
    return fetch(`${cluster.httpUrl}/shop${path}`, init);
  }
  async function stockOf(sku: string): Promise<number> {
    return ((await (await send('GET', `/stock/${sku}`)).json()) as { quantity: number }).quantity;
  }
  async function order(...items: readonly (readonly [sku: string, quantity: number])[]): Promise<number> {
    const list = items.map(([sku, quantity]) => ({ sku, quantity }));
    return (await send('POST', '/orders', { customer: 'ada', items: list })).status;
  }

  it('takes everything of an order from stock, or nothing', async () => {
    assert.equal((await send('PUT', '/stock/tea', { quantity: 5 })).status, 204);
    await send('PUT', '/stock/cups', { quantity: 1 });
    assert.equal(await order(['tea', 2], ['cups', 1]), 201);
    assert.equal(await order(['tea', 2], ['cups', 1]), 409);
    assert.deepEqual([await stockOf('tea'), await stockOf('cups')], [3, 0]);
  });

  it('sells nothing twice to orders that come at once', async () => {
    await send('PUT', '/stock/last', { quantity: 5 });
    const statuses = await Promise.all(Array.from({ length: 10 }, () => order(['last', 1])));
    assert.equal(statuses.filter((status) => status === 201).length, 5);
    assert.equal(await stockOf('last'), 0);
  });
});
