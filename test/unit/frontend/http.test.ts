import assert from 'node:assert/strict';
import { request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createFrontendServer } from '../../../frontend/server.ts';
import { callQueue } from '../../../core/wire/topology.ts';
import { testBundle, type TestBundleOptions } from '../../helpers/live-bundle.ts';
import { openResponder, type Answer, type Responder, type SeenCall } from '../../helpers/responder.ts';
import { exchangeRaw, openTestFrontend, type TestFrontend } from '../../helpers/test-frontend.ts';
import { until } from '../../helpers/until.ts';

const OPERATIONS: TestBundleOptions['operations'] = [
  {
    operationId: 'getFile',
    method: 'GET',
    path: '/files/{name}',
    parameters: [
      { name: 'name', in: 'path', required: true, schema: { type: 'string' }, style: 'simple', explode: false },
    ],
  },
  { operationId: 'putFile', method: 'PUT', path: '/files/{name}', body: { required: false, content: { '*/*': {} } } },
];

describe('frontend as an HTTP server', () => {
  let test: TestFrontend;
  let responder: Responder;
  let answer: (call: SeenCall) => Answer | undefined;

  beforeEach(async () => {
    answer = () => ({});
    const config = { maxBodyBytes: 2_000, maxHeaderBytes: 4_096 };
    test = await openTestFrontend({ bundles: [testBundle({ operations: OPERATIONS })], config });
    responder = await openResponder(test.broker, callQueue('orders', 'aaaaaaaaaaaa'), (call) => answer(call));
  });
  afterEach(() => test.close());

  /** One request as these lines, after which the connection closes. */
  function send(...lines: readonly string[]): Promise<string> {
    return exchangeRaw(test.frontend.port, [...lines, 'Connection: close', '', ''].join('\r\n'));
  }

  it('answers HEAD like GET, with the length and without the body', async () => {
    const text = await send('HEAD /files/a HTTP/1.1', 'Host: x');
    assert.match(text, /^HTTP\/1.1 200 OK\r\n/);
    assert.match(text, /\r\ncontent-length: 11\r\n/);
    assert.ok(text.endsWith('\r\n\r\n'));
    assert.equal(responder.calls[0]?.meta.method, 'HEAD');
  });

  it('answers HEAD with an error without a body too', async () => {
    const text = await send('HEAD /nowhere HTTP/1.1', 'Host: x');
    assert.match(text, /^HTTP\/1.1 404 /);
    assert.ok(text.endsWith('\r\n\r\n'));
  });

  it('decodes percent-encoding after it split the path', async () => {
    await send('GET /files/a%2Fb%20%C3%A9 HTTP/1.1', 'Host: x');
    assert.deepEqual(responder.calls[0]?.meta.params, { name: 'a/b é' });
    assert.equal(responder.calls[0]?.meta.path, '/files/a%2Fb%20%C3%A9');
  });

  it('passes on names that objects inherit', async () => {
    await send('GET /files/a?__proto__=1&constructor=2 HTTP/1.1', 'Host: x');
    const query = responder.calls[0]?.meta.query ?? {};
    assert.deepEqual(Object.entries(query), [
      ['__proto__', '1'],
      ['constructor', '2'],
    ]);
  });

  it('takes the absolute form that clients send to proxies', async () => {
    assert.match(await send('GET http://somewhere.test/files/a?x=1 HTTP/1.1', 'Host: x'), /^HTTP\/1.1 200 /);
    assert.deepEqual(responder.calls[0]?.meta.query, { x: '1' });
  });

  it('answers OPTIONS * and what begins with no slash with 404', async () => {
    assert.match(await send('OPTIONS * HTTP/1.1', 'Host: x'), /^HTTP\/1.1 404 /);
  });

  it('joins a header that came twice, and drops those the connection names', async () => {
    const headers = ['X-A: 1', 'x-a: 2', 'X-Hop: 1', 'TE: trailers', 'Keep-Alive: timeout=5', 'Host: x'];
    await exchangeRaw(
      test.frontend.port,
      ['GET /files/a HTTP/1.1', ...headers, 'Connection: x-hop, close', '', ''].join('\r\n'),
    );
    const seen = responder.calls[0]?.meta.headers ?? {};
    assert.equal(seen['x-a'], '1, 2');
    assert.deepEqual(
      ['x-hop', 'te', 'keep-alive', 'connection'].filter((name) => name in seen),
      [],
    );
  });

  it('answers pipelined requests in their order', async () => {
    const held: SeenCall[] = [];
    answer = (call) => {
      held.push(call);
      return undefined;
    };
    const answered = exchangeRaw(
      test.frontend.port,
      'GET /files/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /files/2 HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /files/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    );
    await until('all three came', () => held.length === 3);
    for (const call of held.toReversed()) {
      await responder.reply(call, {
        headers: { 'content-type': 'text/plain' },
        body: `<${String(call.meta.params?.['name'])}>`,
      });
    }
    const bodies = (await answered).match(/<\d>/g);
    assert.deepEqual(bodies, ['<1>', '<2>', '<3>']);
  });

  it('asks for the body only when it will take it', async () => {
    const taken = await exchangeRaw(
      test.frontend.port,
      'PUT /files/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n',
      'ok',
    );
    assert.match(taken, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 /);
    assert.equal(responder.calls[0]?.body.toString(), 'ok');
    for (const [path, status] of [
      ['/files/a', 413],
      ['/nowhere', 404],
    ] as const) {
      const refused = await new Promise<number | string>((resolve, reject) => {
        const headers = { expect: '100-continue', 'content-length': 5_000 };
        const req = httpRequest(test.frontend.url + path, { method: 'PUT', headers, agent: false });
        req.on('continue', () => reject(new Error('it asked for the body')));
        req.on('response', (res) => {
          assert.equal(res.headers.connection, 'close');
          resolve(res.statusCode ?? 0);
          req.destroy();
        });
        req.on('error', reject);
        req.flushHeaders();
      });
      assert.equal(refused, status);
    }
  });

  it('reads a chunked body to its end', async () => {
    const text = await exchangeRaw(
      test.frontend.port,
      'PUT /files/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n3\r\nabc\r\n',
      '2\r\nde\r\n0\r\n\r\n',
    );
    assert.match(text, /^HTTP\/1.1 200 /);
    assert.equal(responder.calls[0]?.body.toString(), 'abcde');
  });

  it('refuses headers over the limit with 431 HEADERS_TOO_LARGE', async () => {
    const text = await send('GET /files/a HTTP/1.1', 'Host: x', `X-A: ${'a'.repeat(5_000)}`);
    assert.match(text, /^HTTP\/1.1 431 /);
    assert.equal((JSON.parse(text.slice(text.indexOf('{'))) as { code: string }).code, 'HEADERS_TOO_LARGE');
  });

  it('refuses what is not HTTP with 400 INVALID_REQUEST', async () => {
    const text = await exchangeRaw(test.frontend.port, 'HELLO\r\n\r\n');
    assert.match(text, /^HTTP\/1.1 400 /);
    assert.equal((JSON.parse(text.slice(text.indexOf('{'))) as { code: string }).code, 'INVALID_REQUEST');
  });

  for (const [what, lines, status, code] of [
    ['a request without a Host', ['GET /files/a HTTP/1.1'], 400, 'INVALID_REQUEST'],
    ['an expectation it does not know', ['GET /files/a HTTP/1.1', 'Host: x', 'Expect: tea'], 400, 'INVALID_REQUEST'],
    ['CONNECT', ['CONNECT x:443 HTTP/1.1', 'Host: x'], 405, 'METHOD_NOT_ALLOWED'],
  ] as const) {
    it(`refuses ${what} with ${status} ${code}`, async () => {
      const text = await send(...lines);
      assert.match(text, new RegExp(`^HTTP/1.1 ${status} `));
      assert.equal((JSON.parse(text.slice(text.indexOf('{'))) as { code: string }).code, code);
      assert.equal(responder.calls.length, 0);
    });
  }

  it('does not answer a call that is under way with the error of the request behind it', async () => {
    answer = () => undefined;
    const text = await exchangeRaw(test.frontend.port, 'GET /files/1 HTTP/1.1\r\nHost: x\r\n\r\n', 'NONSENSE\r\n\r\n');
    assert.equal(text, '');
  });

  it('throws the rest of a refused body away and takes the next request on the connection', async () => {
    const text = await exchangeRaw(
      test.frontend.port,
      `PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(100_000)}`,
      'GET /files/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    );
    assert.deepEqual(text.match(/HTTP\/1.1 \d+/g), ['HTTP/1.1 413', 'HTTP/1.1 200']);
  });

  it('ends a connection that goes on sending a refused body', async () => {
    const chunk = 'x'.repeat(1024 * 1024);
    const text = await exchangeRaw(
      test.frontend.port,
      `PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: ${1024 ** 3}\r\n\r\n`,
      ...Array.from({ length: 20 }, () => chunk),
    ).catch((error: NodeJS.ErrnoException) => error.code);
    // Whether the client still gets to read the answer, once it has sent 16 MiB too much, is its kernel's choice.
    assert.match(String(text), /^HTTP\/1.1 413 |^ECONNRESET|^EPIPE/);
    assert.equal(responder.calls.length, 0);
  });

  it('has pages of its own under /_funcatron and nowhere else', async () => {
    const health = await test.fetch('/_funcatron/health');
    assert.deepEqual([health.status, await health.json()], [200, { ready: true, reasons: [] }]);
    const docs = await test.fetch('/_funcatron/docs');
    assert.match(docs.headers.get('content-type') ?? '', /^text\/html/);
    const missing = await test.fetch('/_funcatron/nothing');
    assert.equal(missing.status, 404);
    assert.match(missing.headers.get('content-type') ?? '', /^application\/problem\+json/);
    assert.equal(((await missing.json()) as { code: string }).code, 'NO_ROUTE');
    assert.equal(
      ((await (await test.fetch('/_funcatronics')).json()) as { detail: string }).detail.includes('bundle'),
      true,
    );
  });
});

describe('frontend/server', () => {
  let server: Server;
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  it('ends connections whose headers trickle in', async () => {
    const never = (): void => assert.fail('there was no request');
    server = createFrontendServer({ maxHeaderBytes: 4_096, headersMs: 50, checkMs: 20, own: never, calls: never });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    assert.match(await exchangeRaw(port, 'GET / HTTP/1.1\r\nHost: '), /^HTTP\/1.1 408 /);
  });
});
