import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { DirectListener } from '../../../runner/direct/listener.ts';
import { freePort } from '../../helpers/servers/port.ts';
import { openTestFrontend, type TestFrontend } from '../../helpers/test-frontend.ts';

const TOKEN = 'token-of-the-operator';

describe('frontend/direct-probe', () => {
  let test: TestFrontend;
  let listener: DirectListener;

  before(async () => {
    test = await openTestFrontend({ bundles: [], config: { token: TOKEN } });
    listener = await DirectListener.open({ host: '127.0.0.1', port: 0, url: '' });
  });
  after(async () => {
    await listener.close();
    await test.close();
  });

  async function ask(url: string, token = TOKEN): Promise<unknown> {
    const response = await test.fetch(`/_funcatron/reach?url=${encodeURIComponent(url)}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const { code, ...rest } = (await response.json()) as { code?: string };
    return code ?? rest;
  }

  it('says that it reaches a runner', async () => {
    assert.deepEqual(await ask(listener.url), { reached: true });
    assert.deepEqual(await ask(`${listener.url}/`), { reached: true });
  });

  it('says why it does not', async () => {
    const port = await freePort();
    assert.deepEqual(await ask(`http://127.0.0.1:${port}`), { reached: false, why: 'ECONNREFUSED' });
    assert.deepEqual(await ask('file:///etc/passwd'), { reached: false, why: 'it is no http URL' });
    assert.deepEqual(await ask(''), { reached: false, why: 'it is no http URL' });
  });

  it('takes no other server for a runner', async () => {
    const other = createServer((_req, res) => void res.end('hello'));
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    assert.deepEqual(await ask(`http://127.0.0.1:${port}`), { reached: false, why: 'another server answers there' });
    other.closeAllConnections();
    other.close();
  });

  it('asks for nobody who does not hold the management token', async () => {
    assert.equal(await ask(listener.url, 'another'), 'UNAUTHENTICATED');
    assert.equal((await test.fetch(`/_funcatron/reach?url=${listener.url}`)).status, 401);
  });
});
