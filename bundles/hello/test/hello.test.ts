import assert from 'node:assert/strict';
import { type EmbeddedCluster, openEmbedded } from '../../../test/helpers/embedded.ts';

describe('bundles/hello', () => {
  let cluster: EmbeddedCluster;
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    await cluster.deploy('bundles/hello');
  });
  after(() => cluster.close());

  async function get(path: string): Promise<{ status: number; body: unknown }> {
    const response = await fetch(cluster.httpUrl + path);
    return { status: response.status, body: await response.json() };
  }

  it('greets by name, with the default of what was not given', async () => {
    assert.deepEqual(await get('/hello/world'), { status: 200, body: { text: 'Hello, world!' } });
  });

  it('gets its parameters as the types of the document', async () => {
    const { body } = await get('/hello/ada%20l?times=2&loud=true');
    assert.deepEqual(body, { text: 'HELLO, ADA L! HELLO, ADA L!' });
  });

  it('never sees a request that does not match: 400 with every violation', async () => {
    const { status, body } = await get('/hello/world?times=many&loud=perhaps');
    assert.equal(status, 400);
    const { problems } = body as { problems: { pointer: string }[] };
    assert.deepEqual(problems.map(({ pointer }) => pointer).sort(), ['/query/loud', '/query/times']);
  });

  it('greets everybody in the body with 201, and refuses a body that is none', async () => {
    const send = (body: string): Promise<Response> =>
      fetch(`${cluster.httpUrl}/hello/`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    const good = await send('{"names":["Ada","Grace"]}');
    assert.equal(good.status, 201);
    assert.deepEqual(await good.json(), [{ text: 'Hello, Ada!' }, { text: 'Hello, Grace!' }]);
    assert.equal((await send('{"names":[]}')).status, 400);
  });
});
