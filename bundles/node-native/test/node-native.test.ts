import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';

describe('bundles/node-native', () => {
  let cluster: EmbeddedCluster;
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy('bundles/node-native');
  });
  after(() => cluster.close());

  const post = (path: string, contentType: string, body: NonNullable<RequestInit['body']>): Promise<Response> =>
    fetch(cluster.httpUrl + path, { method: 'POST', headers: { 'content-type': contentType }, body });

  it('gzips bytes as they are', async () => {
    const body = Buffer.alloc(200_000, Buffer.from([0, 255, 10, 13, 128, 7]));
    const response = await post('/native/gzip', 'application/octet-stream', body);
    assert.equal(response.headers.get('content-type'), 'application/gzip');
    assert.ok(gunzipSync(await response.arrayBuffer()).equals(body));
  });

  it('hashes passwords and counts them in the cluster’s store', async () => {
    const hash = async (): Promise<{ status: number; body: { hash: string; count: number } }> => {
      const response = await post('/native/passwords', 'application/json', '{"password":"correct horse"}');
      return { status: response.status, body: (await response.json()) as { hash: string; count: number } };
    };
    const [first, second] = [await hash(), await hash()];
    assert.equal(first.status, 201);
    assert.match(first.body.hash, /^[0-9a-f]{32}:[0-9a-f]{64}$/);
    assert.notEqual(first.body.hash, second.body.hash);
    assert.equal(second.body.count, first.body.count + 1);
  });

  it('reads what its permissions name, and nothing else', async () => {
    const read = (path: string): Promise<Response> => fetch(`${cluster.httpUrl}/native/files?path=${path}`);
    assert.equal((await read('/etc/hostname')).status, 200);
    const denied = await read('/etc/passwd');
    assert.deepEqual([denied.status, await denied.json()], [403, { code: 'ERR_ACCESS_DENIED' }]);
  });
});
