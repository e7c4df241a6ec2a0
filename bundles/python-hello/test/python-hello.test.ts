import assert from 'node:assert/strict';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';
import { needPython } from '../../../test/helpers/programs.ts';

describe('bundles/python-hello', () => {
  let cluster: EmbeddedCluster | undefined;
  before(function () {
    needPython(this);
  });
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy('bundles/python-hello');
  });
  after(() => cluster?.close());

  it('greets by name, with parameters as the types of the document', async () => {
    const response = await fetch(`${cluster?.httpUrl}/python/hello/ada%20l?times=2`);
    assert.deepEqual([response.status, await response.json()], [200, { text: 'Hello, ada l! Hello, ada l!' }]);
    assert.equal((await fetch(`${cluster?.httpUrl}/python/hello/ada?times=99`)).status, 400);
  });

  it('gives bytes back as they came', async () => {
    const body = Buffer.alloc(200_000, Buffer.from([0, 255, 10, 13, 128, 7]));
    const headers = { 'content-type': 'image/png' };
    const response = await fetch(`${cluster?.httpUrl}/python/echo`, { method: 'POST', headers, body });
    assert.deepEqual([response.headers.get('content-type'), response.headers.get('x-bytes')], ['image/png', '200000']);
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(body));
  });

  it('answers many at once with several workers', async () => {
    const ask = async (n: number): Promise<unknown> => (await fetch(`${cluster?.httpUrl}/python/hello/n${n}`)).json();
    const answers = await Promise.all(Array.from({ length: 50 }, (_item, n) => ask(n)));
    assert.deepEqual(
      answers,
      Array.from({ length: 50 }, (_item, n) => ({ text: `Hello, n${n}!` })),
    );
  });
});
