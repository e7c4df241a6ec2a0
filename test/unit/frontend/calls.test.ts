import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { delay } from '../../../core/lifecycle.ts';
import { StampClock } from '../../../core/stamp-clock.ts';
import { ReplyFlag } from '../../../core/wire/envelope.ts';
import { callQueue, cancelExchange, listenerQueue, listenerTopology } from '../../../core/wire/topology.ts';
import { snapshotOf, testBundle, type TestBundle, type TestBundleOptions } from '../../helpers/live-bundle.ts';
import { openResponder, type Answer, type Responder, type SeenCall } from '../../helpers/responder.ts';
import { metric, openTestFrontend, type TestFrontend, type TestFrontendOptions } from '../../helpers/test-frontend.ts';
import { until } from '../../helpers/until.ts';

const ID = { in: 'path', required: true, style: 'simple', explode: false } as const;
const QUERY = { in: 'query', required: false, style: 'form', explode: true } as const;

const OPERATIONS: TestBundleOptions['operations'] = [
  {
    operationId: 'getOrder',
    method: 'GET',
    path: '/orders/{id}',
    parameters: [
      { ...ID, name: 'id', schema: { type: 'integer' } },
      { ...QUERY, name: 'verbose', schema: { type: 'boolean', default: false } },
    ],
  },
  { operationId: 'removeOrder', method: 'DELETE', path: '/orders/{id}' },
  {
    operationId: 'addOrder',
    method: 'POST',
    path: '/orders',
    body: {
      required: true,
      content: {
        'application/json': {
          schema: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } },
        },
      },
    },
  },
  { operationId: 'upload', method: 'POST', path: '/files', body: { required: false, content: { '*/*': {} } } },
  { operationId: 'quick', method: 'GET', path: '/quick', timeoutMs: 40 },
  {
    operationId: 'checked',
    method: 'GET',
    path: '/checked',
    validateResponses: true,
    responses: {
      '200': {
        content: {
          'application/json': { schema: { type: 'object', required: ['ok'], properties: { ok: { type: 'boolean' } } } },
        },
      },
    },
  },
  { operationId: 'hidden', method: 'GET', path: '/hidden', http: false },
];

const QUEUE = callQueue('orders', 'aaaaaaaaaaaa');

interface Problem {
  readonly code: string;
  readonly status: number;
  readonly callId: string;
  readonly detail: string;
  readonly problems?: readonly { readonly pointer?: string }[];
}

describe('frontend', () => {
  let test: TestFrontend;
  let responder: Responder;
  let answer: (call: SeenCall) => Answer | undefined | Promise<Answer | undefined>;

  async function open(options: TestFrontendOptions & { bundle?: TestBundle } = {}): Promise<void> {
    answer = () => ({});
    const bundle = options.bundle ?? testBundle({ basePath: '/shop', operations: OPERATIONS });
    test = await openTestFrontend({ bundles: [bundle], ...options });
    responder = await openResponder(test.broker, QUEUE, (call) => answer(call));
  }
  afterEach(async () => {
    await test.close();
  });

  async function problemOf(response: Response): Promise<Problem> {
    assert.equal(response.headers.get('content-type'), 'application/problem+json');
    const problem = (await response.json()) as Problem;
    assert.equal(problem.status, response.status);
    assert.equal(problem.callId, response.headers.get('x-funcatron-call-id'));
    assert.match(response.headers.get('server-timing') ?? '', /^frontend;dur=[\d.]+/);
    return problem;
  }

  describe('takes a call to its func and the answer back', () => {
    it('with parameters coerced and defaulted, and the headers that are not the connection’s', async () => {
      await open();
      const response = await test.fetch('/shop/orders/7?verbose=true&page=2&page=3', {
        headers: { 'x-tenant': 'a', authorization: 'Bearer t', cookie: 'sid=1' },
      });
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('content-type'), 'application/json');
      assert.deepEqual(await response.json(), { ok: true });
      const [call] = responder.calls;
      assert.equal(call?.id, response.headers.get('x-funcatron-call-id'));
      assert.equal(call?.attempt, 1);
      assert.equal(call?.meta.method, 'GET');
      assert.equal(call?.meta.path, '/shop/orders/7');
      assert.equal(call?.meta.kind, 'http');
      assert.deepEqual(call?.meta.params, { id: 7 });
      assert.deepEqual(call?.meta.query, { verbose: true, page: ['2', '3'] });
      assert.deepEqual(call?.meta.cookies, { sid: '1' });
      const headers = call?.meta.headers ?? {};
      assert.equal(headers['x-tenant'], 'a');
      assert.equal(headers['authorization'], 'Bearer t');
      assert.equal(headers['connection'], undefined);
    });

    it('with the body exactly as received', async () => {
      await open();
      const body = '{ "name" : "caf\u00e9" }\n';
      const response = await test.fetch('/shop/orders', {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json' },
      });
      assert.equal(response.status, 200);
      assert.equal(responder.calls[0]?.body.toString(), body);
      assert.equal((responder.calls[0]?.flags ?? 0) & 4, 4, 'JSON is text');
    });

    it('with status, headers and bytes as the func gave them, without those it may not set', async () => {
      await open();
      const bytes = Buffer.from([0, 255, 128, 10, 13]);
      answer = () => ({
        status: 201,
        headers: {
          'content-type': 'image/png',
          'x-a': 'b',
          'set-cookie': ['a=1', 'b=2'],
          'Content-Length': '99',
          'transfer-encoding': 'chunked',
          connection: 'close',
        },
        body: bytes,
      });
      const response = await test.fetch('/shop/orders/7');
      assert.equal(response.status, 201);
      assert.equal(response.headers.get('content-type'), 'image/png');
      assert.equal(response.headers.get('x-a'), 'b');
      assert.deepEqual(response.headers.getSetCookie(), ['a=1', 'b=2']);
      assert.equal(response.headers.get('content-length'), '5');
      assert.deepEqual(Buffer.from(await response.arrayBuffer()), bytes);
    });

    it('with a large body', async () => {
      await open();
      const body = Buffer.alloc(60_000, 'x');
      answer = (call) => ({ headers: { 'content-type': 'text/plain' }, body: call.body });
      const response = await test.fetch('/shop/files', {
        method: 'POST',
        body,
        headers: { 'content-type': 'text/plain' },
      });
      assert.equal((await response.arrayBuffer()).byteLength, body.length);
    });

    it('without a body for 204', async () => {
      await open();
      answer = () => ({ status: 204, headers: {}, body: '' });
      const response = await test.fetch('/shop/orders/7');
      assert.equal(response.status, 204);
      assert.equal(response.headers.get('content-length'), null);
    });

    it('and says where the time went', async () => {
      await open();
      const stamps = new StampClock();
      answer = async () => {
        const arrivedUs = stamps.stampOf(performance.now());
        await delay(60);
        return { arrivedUs, waitUs: 40_000, coldUs: 35_000, funcUs: 1_500 };
      };
      const response = await test.fetch('/shop/orders/7');
      assert.match(
        response.headers.get('server-timing') ?? '',
        /^frontend;dur=[\d.]+, queue;dur=[\d.]+, isolate;dur=40, cold;dur=35, func;dur=1\.5, reply;dur=[\d.]+$/,
      );
      const labels = 'bundle="orders",operation="getOrder",status="2xx"';
      const name = 'funcatron_http_call_part_seconds';
      for (const part of ['frontend', 'queue', 'isolate', 'cold', 'func', 'reply'])
        assert.equal(await metric(test.frontend, `${name}_count{${labels},part="${part}"}`), 1, part);
      assert.equal(await metric(test.frontend, `${name}_bucket{${labels},part="isolate",le="0.05"}`), 1);
      assert.equal(await metric(test.frontend, `${name}_bucket{${labels},part="isolate",le="0.01"}`), 0);
    });

    it('and says of a call without an answer how long it waited for one', async () => {
      await open();
      answer = () => undefined;
      const response = await test.fetch('/shop/quick');
      assert.equal(response.status, 504);
      assert.match(response.headers.get('server-timing') ?? '', /^frontend;dur=[\d.]+, unanswered;dur=[\d.]+$/);
    });

    it('and says of a call that never left that it was here', async () => {
      await open();
      const response = await test.fetch('/shop/nothing');
      assert.match(response.headers.get('server-timing') ?? '', /^frontend;dur=[\d.]+$/);
    });

    it('and passes a valid traceparent on, or begins a trace named like the call', async () => {
      await open();
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      await test.fetch('/shop/orders/7', { headers: { traceparent } });
      await test.fetch('/shop/orders/7', { headers: { traceparent: '00-zz' } });
      const [first, second] = responder.calls.map((call) => call.meta.headers?.['traceparent']);
      assert.equal(first, traceparent);
      assert.equal(String(second).slice(3, 35), responder.calls[1]?.id.replaceAll('-', ''));
    });

    it('counting it by bundle, operation and status class', async () => {
      await open();
      await test.fetch('/shop/orders/7');
      const labels = 'bundle="orders",operation="getOrder",status="2xx"';
      assert.equal(await metric(test.frontend, `funcatron_http_call_seconds_count{${labels}}`), 1);
      assert.equal(await metric(test.frontend, 'funcatron_rpc_calls_total'), 1);
    });
  });

  describe('refuses before the queue', () => {
    afterEach(() => assert.equal(responder.calls.length, 0));

    it('a path no bundle answers with 404 NO_ROUTE', async () => {
      await open();
      for (const path of ['/', '/shop', '/shop/orders/7/', '/shopping/orders/7', '/shop/hidden']) {
        assert.equal((await problemOf(await test.fetch(path))).code, 'NO_ROUTE', path);
      }
    });

    it('a method the path does not take with 405 METHOD_NOT_ALLOWED and Allow', async () => {
      await open();
      const response = await test.fetch('/shop/orders/7', { method: 'PATCH' });
      assert.equal(response.headers.get('allow'), 'DELETE, GET, HEAD, OPTIONS');
      assert.equal((await problemOf(response)).code, 'METHOD_NOT_ALLOWED');
    });

    it('OPTIONS with 204 and Allow', async () => {
      await open();
      const response = await test.fetch('/shop/orders', { method: 'OPTIONS' });
      assert.equal(response.status, 204);
      assert.equal(response.headers.get('allow'), 'OPTIONS, POST');
    });

    it('a malformed path with 400', async () => {
      await open();
      assert.equal((await problemOf(await test.fetch('/shop/orders/%zz'))).code, 'INVALID_REQUEST');
    });

    it('a request that breaks the document with 400 INVALID_REQUEST and every violation', async () => {
      await open();
      const problem = await problemOf(await test.fetch('/shop/orders/x?verbose=maybe'));
      assert.equal(problem.code, 'INVALID_REQUEST');
      assert.deepEqual(
        problem.problems?.map(({ pointer }) => pointer),
        ['/path/id', '/query/verbose'],
      );
    });

    it('a content type the operation does not take with 415 UNSUPPORTED_MEDIA_TYPE', async () => {
      await open();
      const response = await test.fetch('/shop/orders', {
        method: 'POST',
        body: '<a/>',
        headers: { 'content-type': 'application/xml' },
      });
      assert.equal((await problemOf(response)).code, 'UNSUPPORTED_MEDIA_TYPE');
    });

    it('a body that says it is too long with 413 PAYLOAD_TOO_LARGE', async () => {
      await open({ config: { maxBodyBytes: 2_000 } });
      const response = await test.fetch('/shop/files', { method: 'POST', body: Buffer.alloc(2_001) });
      assert.equal((await problemOf(response)).code, 'PAYLOAD_TOO_LARGE');
    });

    it('a chunked body that turns out too long with 413 PAYLOAD_TOO_LARGE, and answers the next request', async () => {
      await open({ config: { maxBodyBytes: 2_000 } });
      const stream = new ReadableStream({
        start(controller) {
          for (let n = 0; n < 30; n++) controller.enqueue(new Uint8Array(100));
          controller.close();
        },
      });
      const response = await test.fetch('/shop/files', { method: 'POST', body: stream, duplex: 'half' });
      assert.equal((await problemOf(response)).code, 'PAYLOAD_TOO_LARGE');
      assert.equal((await test.fetch('/shop/nowhere')).status, 404);
    });

    it('more calls than it holds with 503 OVERLOADED and Retry-After', async () => {
      await open({ config: { maxInFlight: 1 }, bundle: testBundle({ operations: OPERATIONS, state: { ready: 0 } }) });
      const waiting = test.fetch('/orders/7');
      await until('one call waits', () => test.report.inFlight['orders@aaaaaaaaaaaa'] === 1);
      const response = await test.fetch('/orders/8');
      assert.equal(response.headers.get('retry-after'), '1');
      assert.equal((await problemOf(response)).code, 'OVERLOADED');
      assert.equal((await problemOf(await waiting)).code, 'NO_RUNNER');
    });

    it('a call no runner takes with 503 NO_RUNNER after noRunnerMs', async () => {
      await open({ config: { noRunnerMs: 30 }, bundle: testBundle({ operations: OPERATIONS, state: { ready: 0 } }) });
      const response = await test.fetch('/orders/7');
      assert.equal(response.headers.get('retry-after'), '1');
      assert.equal((await problemOf(response)).code, 'NO_RUNNER');
      await until('nothing is in flight', () => Object.keys(test.report.inFlight).length === 0);
    });

    it('a call of a bundle that fails on every runner at once, saying when it is tried again', async () => {
      const retryAt = Date.now() + 60_000;
      await open({
        config: { noRunnerMs: 30_000 },
        bundle: testBundle({ operations: OPERATIONS, state: { ready: 0, retryAt } }),
      });
      const response = await test.fetch('/orders/7');
      const retryAfterS = Number(response.headers.get('retry-after'));
      assert.ok(retryAfterS > 30 && retryAfterS <= 60, `${retryAfterS} s`);
      const { code, detail } = await problemOf(response);
      assert.equal(code, 'NO_RUNNER');
      assert.equal(detail, `orders@aaaaaaaaaaaa fails on every runner; the next try is in ${retryAfterS} s`);
    });

    it('no call at once that can see the next try out', async () => {
      const retryAt = Date.now() + 60_000;
      await open({
        config: { noRunnerMs: 120_000 },
        bundle: testBundle({ operations: OPERATIONS, state: { ready: 0, retryAt } }),
      });
      const aborted = new AbortController();
      const waiting = test.fetch('/orders/7', { signal: aborted.signal });
      await until('it waits', () => test.report.inFlight['orders@aaaaaaaaaaaa'] === 1);
      aborted.abort();
      await assert.rejects(waiting);
    });

    it('everything with 503 NO_LEADER before the first route table', async () => {
      await open({ bundles: undefined } as unknown as TestFrontendOptions);
      assert.deepEqual(await test.reasons(), ['no route table has arrived yet']);
      assert.equal((await problemOf(await test.fetch('/shop/orders/7'))).code, 'NO_LEADER');
    });
  });

  it('keeps a call waiting until a runner is ready', async () => {
    const loading = testBundle({ operations: OPERATIONS, state: { ready: 0 } });
    await open({ bundle: loading });
    const waiting = test.fetch('/orders/7');
    await until('the call waits', () => test.report.inFlight['orders@aaaaaaaaaaaa'] === 1);
    assert.equal(responder.calls.length, 0);
    const ready = testBundle({ operations: OPERATIONS });
    await test.route(snapshotOf('1.2', ready), ready);
    assert.equal((await waiting).status, 200);
  });

  it('answers 504 TIMEOUT at the deadline, and drops the answer that comes later', async () => {
    await open();
    answer = () => undefined;
    const problem = await problemOf(await test.fetch('/shop/quick'));
    assert.equal(problem.code, 'TIMEOUT');
    const [call] = responder.calls;
    assert.ok(call !== undefined && call.deadline < Date.now());
    await responder.reply(call);
    await until('it was dropped', async () => (await metric(test.frontend, 'funcatron_rpc_late_replies_total')) === 1);
  });

  it('answers 503 NO_RUNNER when the work queue does not exist, having tried the newest routes once', async () => {
    await open({ bundle: testBundle({ operations: OPERATIONS, state: { queue: 'fn.orders.gone' } }) });
    assert.equal((await problemOf(await test.fetch('/orders/7'))).code, 'NO_RUNNER');
    assert.equal(await metric(test.frontend, 'funcatron_rpc_calls_total'), 2);
  });

  it('answers 503 OVERLOADED when the work queue is full', async () => {
    await open({ bundle: testBundle({ operations: OPERATIONS, state: { queue: 'fn.orders.full', batchMax: 1 } }) });
    const bounds = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await test.broker.declare({ queues: [{ name: 'fn.orders.full', durable: true, arguments: bounds }] });
    const first = test.fetch('/quick');
    await until('one is queued', async () => (await test.broker.probe('fn.orders.full'))?.messages === 1);
    assert.equal((await problemOf(await test.fetch('/orders/7'))).code, 'OVERLOADED');
    assert.equal((await problemOf(await first)).code, 'TIMEOUT');
  });

  describe('renders what a runner says instead of an answer', () => {
    for (const code of ['FUNC_ERROR', 'FUNC_CRASHED', 'RUNNER_LOST', 'RESPONSE_TOO_LARGE', 'TIMEOUT'] as const) {
      it(`${code}, with its data`, async () => {
        await open();
        const body = JSON.stringify({ code, message: 'func getOrder threw (TypeError)', data: { hint: 'look' } });
        answer = () => ({ flags: ReplyFlag.failed, body });
        const problem = await problemOf(await test.fetch('/shop/orders/7'));
        assert.equal(problem.code, code);
        assert.equal(problem.detail, 'func getOrder threw (TypeError)');
        assert.equal((problem as { hint?: string }).hint, 'look');
      });
    }

    it('OVERLOADED, when no worker was free in time, with Retry-After', async () => {
      await open();
      const message = 'no worker was free in time';
      const body = JSON.stringify({ code: 'OVERLOADED', message, data: { retryAfterS: 1 } });
      answer = () => ({ flags: ReplyFlag.failed, body });
      const response = await test.fetch('/shop/orders/7');
      assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '1']);
      assert.equal((await problemOf(response)).detail, message);
    });

    it('INTERNAL for a code it does not know, INVALID_RESPONSE for no JSON at all', async () => {
      await open();
      answer = () => ({ flags: ReplyFlag.failed, body: '{"code":"NEW","message":"?"}' });
      assert.equal((await problemOf(await test.fetch('/shop/orders/7'))).code, 'INTERNAL');
      answer = () => ({ flags: ReplyFlag.failed, body: 'oops' });
      assert.equal((await problemOf(await test.fetch('/shop/orders/7'))).code, 'INVALID_RESPONSE');
    });
  });

  describe('answers 502 INVALID_RESPONSE', () => {
    it('when validateResponses finds a violation, without telling the client which', async () => {
      await open();
      answer = () => ({ body: '{"ok":"secret"}' });
      const problem = await problemOf(await test.fetch('/shop/checked'));
      assert.equal(problem.code, 'INVALID_RESPONSE');
      assert.ok(!JSON.stringify(problem).includes('secret') && problem.problems === undefined);
      answer = () => ({});
      assert.equal((await test.fetch('/shop/checked')).status, 200);
    });

    for (const [what, given] of [
      ['a header value with a line break', { headers: { 'x-a': 'a\r\nset-cookie: b' } }],
      ['a header name with a space', { headers: { 'x a': 'b' } }],
      ['a status that is none', { status: 99, headers: {} }],
      ['a status of an interim answer', { status: 101, headers: {} }],
      ['a meta that is no JSON object', { headers: 'nonsense' as unknown as Record<string, string> }],
    ] as const) {
      it(`for ${what}`, async () => {
        await open();
        answer = () => given;
        assert.equal((await problemOf(await test.fetch('/shop/orders/7'))).code, 'INVALID_RESPONSE');
        answer = () => ({});
        assert.equal((await test.fetch('/shop/orders/7')).status, 200);
      });
    }
  });

  it('answers 500 INTERNAL when a call meets a defect, and goes on', async () => {
    const schema = { type: 'no such type' };
    const broken = {
      operationId: 'broken',
      method: 'GET',
      path: '/broken',
      parameters: [{ ...QUERY, name: 'q', schema }],
    };
    await open({ bundle: testBundle({ operations: [...OPERATIONS, broken] }) });
    assert.equal((await problemOf(await test.fetch('/broken?q=1'))).code, 'INTERNAL');
    assert.equal((await test.fetch('/orders/7')).status, 200);
  });

  it('cancels the call when its client hangs up', async () => {
    await open();
    answer = () => undefined;
    const cancelled: string[] = [];
    await test.broker.declare(listenerTopology(cancelExchange, 'test', [''], 10));
    await test.broker.consume(listenerQueue(cancelExchange.name, 'test'), {}, ({ body }) => {
      cancelled.push(body.toString('hex'));
    });
    const req = httpRequest(`${test.frontend.url}/shop/orders/7`).end();
    req.on('error', () => {}); // it is we who hang up
    await until('the call came', () => responder.calls.length === 1);
    req.destroy();
    await until('it was cancelled', () => cancelled.length === 1);
    assert.equal(cancelled[0], responder.calls[0]?.idBytes.toString('hex'));
    await until('nothing is in flight', () => Object.keys(test.report.inFlight).length === 0);
  });

  it('keeps a slow call from holding up the quick ones beside it', async () => {
    await open();
    answer = ({ meta }) => (meta.params?.['id'] === 0 ? undefined : {});
    const slow = Array.from({ length: 64 }, () => test.fetch('/shop/orders/0'));
    await until('the slow ones came', () => responder.calls.length === 64);
    const quick = await Promise.all(Array.from({ length: 64 }, (_, n) => test.fetch(`/shop/orders/${n + 1}`)));
    assert.deepEqual(new Set(quick.map(({ status }) => status)), new Set([200]));
    for (const call of responder.calls.slice(0, 64)) await responder.reply(call);
    assert.deepEqual(new Set((await Promise.all(slow)).map(({ status }) => status)), new Set([200]));
  });

  describe('draining', () => {
    it('refuses a request that was still on its way with 503 SHUTTING_DOWN', async () => {
      await open();
      const socket = connect(test.frontend.port, '127.0.0.1');
      socket.setEncoding('latin1');
      let text = '';
      socket.on('data', (chunk) => (text += String(chunk)));
      await new Promise((resolve) => socket.write('GET /shop/orders/7 HTTP/1.1\r\nHo', resolve));
      // The server has read those bytes when it answers somebody who came later.
      assert.equal((await test.fetch('/_funcatron/health')).status, 200);
      const closing = test.frontend.close();
      socket.write('st: x\r\n\r\n');
      await closing;
      await until('it was answered', () => text.includes('}'));
      assert.match(text, /^HTTP\/1.1 503 /);
      assert.match(text, /\r\nconnection: close\r\n/i);
      assert.equal((JSON.parse(text.slice(text.indexOf('{'))) as Problem).code, 'SHUTTING_DOWN');
      assert.equal(responder.calls.length, 0);
    });

    it('answers what is in flight, takes no new connection, and ends', async () => {
      await open();
      answer = () => undefined;
      const inFlight = test.fetch('/shop/orders/7');
      await until('the call came', () => responder.calls.length === 1);
      const closing = test.frontend.close();
      await until('it says so', () => test.report.stopping);
      const [call] = responder.calls;
      assert.ok(call !== undefined);
      await responder.reply(call);
      const response = await inFlight;
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('connection'), 'close');
      await closing;
      await assert.rejects(test.fetch('/shop/orders/7'));
    });

    it('gives up after drainMs', async () => {
      await open({ config: { drainMs: 50 } });
      answer = () => undefined;
      const inFlight = test.fetch('/shop/orders/7');
      await until('the call came', () => responder.calls.length === 1);
      await Promise.all([test.frontend.close(), assert.rejects(inFlight)]);
    });
  });
});
