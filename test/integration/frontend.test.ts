import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAmqpBroker } from '../../core/broker/amqp.ts';
import type { Broker } from '../../core/broker/broker.ts';
import { newId } from '../../core/id.ts';
import type { Closable } from '../../core/lifecycle.ts';
import { createLog } from '../../core/log.ts';
import { callQueue, replyQueue } from '../../core/wire/topology.ts';
import { openFaultProxy, type FaultProxy } from '../helpers/fault-proxy.ts';
import { testBundle, type TestBundle } from '../helpers/live-bundle.ts';
import { openResponder, type Responder } from '../helpers/responder.ts';
import { freePort } from '../helpers/servers/port.ts';
import { usePrivateRabbit } from '../helpers/servers/rabbitmq.ts';
import { openTestFrontend, type TestFrontend } from '../helpers/test-frontend.ts';
import { until } from '../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });
const BINARY = { required: false, content: { '*/*': {} } };

interface Ended {
  readonly status: number;
  readonly code: string | undefined;
  readonly retryAfter: string | null;
}

describe('frontend on RabbitMQ', function () {
  this.timeout(90_000);
  const rabbit = usePrivateRabbit();
  const open: Closable[] = [];
  let proxy: FaultProxy;
  let runner: Broker;
  let responder: Responder;
  let bundle: TestBundle;
  let test: TestFrontend;
  let holds: boolean;

  beforeEach(async () => {
    holds = false;
    const url = rabbit.server().url();
    proxy = await openFaultProxy(rabbit.server().port);
    runner = openAmqpBroker({ urls: [url], connectionName: 'runner', log, heartbeatS: 1 });
    open.push(proxy, runner);
    await runner.ready();
    const queue = callQueue('orders', newId());
    responder = await openResponder(runner, queue, (call) => (holds ? undefined : { body: String(call.attempt) }));
    bundle = testBundle({
      operations: [
        { operationId: 'get', method: 'GET', path: '/orders', timeoutMs: 40_000 },
        { operationId: 'add', method: 'POST', path: '/orders', timeoutMs: 40_000, body: BINARY },
      ],
      state: { queue: queue.name },
    });
  });
  afterEach(async () => {
    for (const each of open.splice(0).toReversed()) await each.close();
  });

  function connect(): Broker {
    const urls = [proxy.through(rabbit.server().url())];
    return openAmqpBroker({ urls, connectionName: 'frontend', log, heartbeatS: 1 });
  }

  async function openFrontend(options: Parameters<typeof openTestFrontend>[0] = {}): Promise<void> {
    test = await openTestFrontend({ bundles: [bundle], broker: connect(), ...options });
    open.push(test);
  }

  async function call(method: 'GET' | 'POST'): Promise<Ended> {
    const response = await test.fetch('/orders', { method });
    const text = await response.text();
    const code = response.status === 200 ? text : (JSON.parse(text) as { code: string }).code;
    return { status: response.status, code, retryAfter: response.headers.get('retry-after') };
  }

  it('answers 64 callers at once', async () => {
    await openFrontend();
    const ended = await Promise.all(Array.from({ length: 64 }, () => call('GET')));
    assert.deepEqual(new Set(ended.map(({ status }) => status)), new Set([200]));
  });

  it('through a stop and start of the broker: 503 while it is gone, GET again, 502 OUTCOME_UNKNOWN for POST', async () => {
    await openFrontend();
    holds = true;
    const waiting = [call('GET'), call('POST')];
    await until('the calls came', () => responder.calls.length === 2);
    await rabbit.server().stop();
    await until('it knows', async () => (await test.reasons()).length > 0);
    const refused = await call('POST');
    assert.deepEqual(refused, { status: 503, code: 'BROKER_DOWN', retryAfter: '1' });
    holds = false;
    await rabbit.server().start();
    const [get, post] = await Promise.all(waiting);
    assert.deepEqual(get, { status: 200, code: '2', retryAfter: null });
    assert.deepEqual(post, { status: 502, code: 'OUTCOME_UNKNOWN', retryAfter: null });
    await until('it is ready again', async () => (await test.reasons()).length === 0, 20_000);
    assert.equal((await call('POST')).status, 200);
  });

  it('under traffic through a stop and start of the broker: one answer each, and only these', async () => {
    await openFrontend();
    const ended: Ended[] = [];
    const over = new AbortController();
    const traffic = Array.from({ length: 8 }, async (_, n) => {
      while (!over.signal.aborted) ended.push(await call(n % 2 === 0 ? 'GET' : 'POST'));
    });
    await until('calls are answered', () => ended.length > 200);
    await rabbit.server().stop();
    await until('it knows', async () => (await test.reasons()).length > 0);
    assert.equal((await call('GET')).code, 'BROKER_DOWN');
    await rabbit.server().start();
    const before = ended.length;
    await until('calls are answered again', () => ended.slice(before).some(({ status }) => status === 200), 40_000);
    over.abort();
    await Promise.all(traffic);
    const kinds = new Set(ended.map(({ status, code }) => (status === 200 ? 'ok' : code)));
    assert.deepEqual(
      [...kinds].filter((kind) => !['ok', 'BROKER_DOWN', 'OUTCOME_UNKNOWN'].includes(String(kind))),
      [],
    );
  });

  it('through a half-open connection: the reply comes when the connection does', async () => {
    await openFrontend();
    holds = true;
    const waiting = call('POST');
    await until('the call came', () => responder.calls.length === 1);
    proxy.pause();
    await until('it knows', async () => (await test.reasons()).length > 0, 20_000);
    // The broker too: until then it would hand the reply to the dead connection, which acknowledges nothing.
    const replies = replyQueue(test.frontend.id).name;
    await until('so does the broker', async () => (await runner.probe(replies))?.consumers === 0, 20_000);
    const [seen] = responder.calls;
    assert.ok(seen !== undefined);
    await responder.reply(seen, { body: 'late' });
    proxy.cut();
    proxy.resume();
    assert.deepEqual(await waiting, { status: 200, code: 'late', retryAfter: null });
  });

  it('starts while the broker cannot be reached, says so, and serves once it can', async () => {
    proxy.refuse(true);
    const dataDir = await mkdtemp(join(tmpdir(), 'frontend-'));
    open.push({ close: () => rm(dataDir, { recursive: true }) });
    await openFrontend({ dataDir, awaitReady: false });
    await until('the routes are there', async () => (await test.reasons()).length === 1);
    assert.match((await test.reasons())[0] ?? '', /^the message broker is not ready/);
    assert.equal((await call('GET')).code, 'BROKER_DOWN');
    proxy.refuse(false);
    await until('it serves', async () => (await call('GET')).status === 200, 20_000);
  });

  it('starts from its disk while the store cannot be reached and no Tron speaks', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'frontend-'));
    open.push({ close: () => rm(dataDir, { recursive: true }) });
    const first = await openTestFrontend({ bundles: [bundle], broker: connect(), dataDir });
    await first.close();
    const storeUrl = `redis://127.0.0.1:${await freePort()}`;
    test = await openTestFrontend({ broker: connect(), dataDir, storeUrl });
    open.push(test);
    await until('it is ready', async () => (await test.reasons()).length === 0, 20_000);
    assert.equal((await call('GET')).status, 200);
  });
});
