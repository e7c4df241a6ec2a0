import assert from 'node:assert/strict';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';

describe('bundles/queue-worker', () => {
  let cluster: EmbeddedCluster;
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy('bundles/queue-worker');
  });
  after(() => cluster.close());

  const place = (body: unknown): Promise<Response> => cluster.invoke('queue-worker', 'orderPlaced', body);

  it('counts orders that come over the queue', async () => {
    await place({ customer: 'ada', cents: 1250 });
    const second = await place({ customer: 'ada', cents: 250 });
    assert.deepEqual(await second.json(), { customer: 'ada', orders: 2, cents: 1500 });
  });

  it('is checked against its document like any call', async () => {
    const response = await place({ customer: 'ada', cents: -1 });
    assert.deepEqual([response.status, ((await response.json()) as { code: string }).code], [400, 'INVALID_REQUEST']);
  });

  it('has no route over HTTP', async () => {
    const response = await fetch(`${cluster.httpUrl}/orders`, { method: 'POST', body: '{}' });
    assert.equal(response.status, 404);
  });
});
