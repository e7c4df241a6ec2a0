import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Agent, request, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { directPath } from '../../../core/wire/direct.ts';
import { DirectListener, type Expectant } from '../../../runner/direct/listener.ts';
import { until } from '../../helpers/until.ts';

class Waiting implements Expectant {
  readonly id = randomBytes(16);
  readonly method: 'POST' | 'GET';
  claims = 0;
  unclaimed: string[] = [];
  constructor(method: 'POST' | 'GET') {
    this.method = method;
  }
  onRequest(_req: IncomingMessage, res: ServerResponse): void {
    this.claims++;
    res.end('claimed');
  }
  onUnclaimed(why: string): void {
    this.unclaimed.push(why);
  }
}

describe('runner/direct/listener', () => {
  let listener: DirectListener;
  let sockets: Socket[];

  beforeEach(async () => {
    sockets = [];
    listener = await DirectListener.open({ host: '127.0.0.1', port: 0, url: '', maxStrangers: 8, headersMs: 300 });
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await listener.close();
  });

  const bearer = (token: string): RequestInit => ({ headers: { authorization: `Bearer ${token}` } });

  /** A connection of its own that has written this; it says whether it has been closed from there. */
  async function open(text: string): Promise<{ readonly isClosed: () => boolean; readonly text: () => string }> {
    const socket = connect(Number(new URL(listener.url).port), '127.0.0.1');
    let closed = false;
    let got = '';
    socket.on('error', () => undefined);
    socket.on('data', (piece) => (got += String(piece)));
    socket.on('close', () => (closed = true));
    sockets.push(socket);
    await new Promise((resolve) => socket.on('connect', resolve));
    socket.write(text);
    return { isClosed: () => closed, text: () => got };
  }

  it('serves an offer once', async () => {
    const waiting = new Waiting('GET');
    const { url, token } = listener.offer(waiting, 10_000);
    assert.equal((await fetch(url, bearer(token))).status, 200);
    assert.equal((await fetch(url, bearer(token))).status, 404);
    assert.equal(waiting.claims, 1);
    assert.equal(listener.offers, 0);
  });

  for (const [what, init] of [
    ['no token', {}],
    ['a wrong token', bearer('A'.repeat(43))],
    ['an empty token', bearer('')],
    ['a token in another scheme', { headers: { authorization: `Basic ${'A'.repeat(43)}` } }],
  ] as const) {
    it(`refuses ${what}, and goes on waiting`, async () => {
      const waiting = new Waiting('GET');
      const { url, token } = listener.offer(waiting, 10_000);
      assert.equal((await fetch(url, init)).status, 403);
      assert.equal((await fetch(url, bearer(token))).status, 200);
    });
  }

  it('refuses the token of another offer', async () => {
    const [one, other] = [new Waiting('GET'), new Waiting('GET')];
    const { url } = listener.offer(one, 10_000);
    const { token } = listener.offer(other, 10_000);
    assert.equal((await fetch(url, bearer(token))).status, 403);
    assert.equal(one.claims + other.claims, 0);
  });

  it('refuses another method', async () => {
    const waiting = new Waiting('POST');
    const { url, token } = listener.offer(waiting, 10_000);
    assert.equal((await fetch(url, bearer(token))).status, 405);
    assert.equal((await fetch(url, { ...bearer(token), method: 'DELETE' })).status, 405);
    assert.equal(waiting.claims, 0);
    assert.equal((await fetch(url, { ...bearer(token), method: 'POST', body: 'x' })).status, 200);
  });

  for (const path of [
    '/',
    '/direct/',
    '/direct/../etc/passwd',
    '/direct/%2e%2e/x',
    '//direct',
    '/direct/__proto__',
    '*',
  ]) {
    it(`knows nothing under ${path}`, async () => {
      const got = await open(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await until('it has answered', () => got.isClosed());
      assert.match(got.text(), /^HTTP\/1\.1 404 /);
    });
  }

  it('says that it is over when nobody came in time', async () => {
    const waiting = new Waiting('GET');
    const { url, token } = listener.offer(waiting, 50);
    await until('it is over', () => waiting.unclaimed.length > 0);
    assert.deepEqual(waiting.unclaimed, ['late']);
    assert.equal((await fetch(url, bearer(token))).status, 404);
  });

  it('withdraws an offer when the same call is offered again', async () => {
    const [one, again] = [new Waiting('GET'), new Waiting('GET')];
    again.id.set(one.id);
    const { token } = listener.offer(one, 10_000);
    const { url, token: newer } = listener.offer(again, 10_000);
    assert.deepEqual(one.unclaimed, ['again']);
    assert.equal((await fetch(url, bearer(token))).status, 403);
    assert.equal((await fetch(url, bearer(newer))).status, 200);
  });

  it('does not tell a body to come before its token has been seen', async () => {
    const waiting = new Waiting('POST');
    listener.offer(waiting, 10_000);
    const path = directPath(waiting.id);
    const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`;
    const got = await open(head);
    await until('it has answered', () => got.isClosed());
    assert.match(got.text(), /^HTTP\/1\.1 403 /);
  });

  it('ends connections that never finish their headers', async () => {
    const slow = await open('POST /direct/x HTTP/1.1\r\nHost: x\r\nX-A: ');
    const silent = await open('');
    await until('they are closed', () => slow.isClosed() && silent.isClosed());
  });

  it('lets the oldest stranger go for a new one, and nobody who has shown a token', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const claim = (): Promise<number | undefined> => {
      const { url, token } = listener.offer(new Waiting('GET'), 10_000);
      return new Promise((resolve, reject) => {
        const req = request(url, { agent, headers: { authorization: `Bearer ${token}` } }, (res) => {
          res.resume();
          res.on('end', () => resolve(req.reusedSocket ? 1 : 0));
        });
        req.on('error', reject);
        req.end();
      });
    };
    assert.equal(await claim(), 0);
    const strangers: Awaited<ReturnType<typeof open>>[] = [];
    for (let count = 0; count < 10; count++) strangers.push(await open('GET'));
    await until('the oldest are gone', () => strangers[0]?.isClosed() === true && strangers[1]?.isClosed() === true);
    assert.equal(await claim(), 1);
    agent.destroy();
  });

  it('takes heads of 8 KiB and no longer', async () => {
    const got = await open(`GET /direct/x HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(9_000)}\r\n\r\n`);
    await until('it has answered', () => got.isClosed());
    assert.match(got.text(), /^HTTP\/1\.1 431 /);
  });
});
