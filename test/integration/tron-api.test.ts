import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { packArchive } from '../../core/bundle/archive.ts';
import type { FuncatronError } from '../../core/errors.ts';
import type { LogLine } from '../../core/wire/control.ts';
import { CALL_EXCHANGE, callKey, LOG_EXCHANGE } from '../../core/wire/topology.ts';
import { until } from '../helpers/until.ts';
import { rawArchive } from '../helpers/ustar.ts';
import { openHarness, pack, TOKEN, type TestTron, type TronHarness } from './tron-harness.ts';

describe('tron management API', () => {
  let cluster: TronHarness;
  let tron: TestTron;
  beforeEach(async () => {
    cluster = await openHarness();
    tron = await cluster.tron();
  });
  afterEach(() => cluster.close());

  describe('token', () => {
    it('refuses a request without a token or with a wrong one, with a hint and without a word about paths', async () => {
      for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'Basic abc' }]) {
        for (const path of ['/v1/bundles', '/v1/nothing']) {
          const response = await fetch(tron.url + path, { headers });
          const problem = (await response.json()) as { code: string; hint: string };
          assert.equal(response.status, 401);
          assert.equal(problem.code, 'UNAUTHENTICATED');
          assert.match(problem.hint, /Authorization: Bearer/);
          assert.equal(response.headers.get('www-authenticate'), 'Bearer');
        }
      }
    });

    it('needs none for the document, the page and the health', async () => {
      for (const path of ['/v1/openapi.json', '/docs', '/healthz']) {
        assert.equal((await fetch(tron.url + path)).status, 200, path);
      }
    });

    it('is made at first start, for its owner only, with its hash in the store, and taken by every tron', async () => {
      const [first, second] = [await cluster.tron({ token: '' }), await cluster.tron({ token: '' })];
      const file = join(cluster.dataDir, 'token');
      const token = (await readFile(file, 'utf8')).trim();
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      assert.equal(
        (await cluster.store.get('token/sha256'))?.toString(),
        createHash('sha256').update(token).digest('hex'),
      );
      assert.equal((await first.call('GET', '/v1/bundles', { token })).status, 200);
      assert.equal((await second.call('GET', '/v1/bundles', { token })).status, 200);
      assert.equal((await second.call('GET', '/v1/bundles')).status, 401);
      assert.ok(!cluster.logged().includes(token));
      assert.ok(!cluster.logged().includes(TOKEN));
    });
  });

  describe('uploads', () => {
    const refused = async (body: Buffer, query = ''): Promise<string> => {
      const { status, json } = await tron.call('POST', `/v1/bundles${query}`, { body });
      assert.ok(status >= 400 && status < 500, String(status));
      assert.deepEqual(await cluster.store.keys('bundle/'), []);
      return `${json.code}: ${json.detail}`;
    };
    const archiveOf = async (files: Record<string, string>): Promise<Buffer> =>
      (await packArchive(new Map(Object.entries(files).map(([name, text]) => [name, Buffer.from(text)])))).archive;

    it('are refused when they are no archive, with the reason', async () => {
      assert.match(await refused(Buffer.from('hello')), /INVALID_BUNDLE: .*not gzip/);
      const archive = await pack('orders');
      assert.match(await refused(archive.subarray(0, archive.length - 20)), /INVALID_BUNDLE: .*cut short/);
    });

    it('are refused when they hold links or names that leave the folder', async () => {
      const link = rawArchive([{ name: 'bundle.js', type: '2' }]);
      assert.match(await refused(link), /INVALID_BUNDLE: .*symbolic link/);
      const outside = rawArchive([{ name: '../bundle.js', content: Buffer.from('x') }]);
      assert.match(await refused(outside), /INVALID_BUNDLE: .*\.\.\/bundle\.js/);
    });

    it('are refused when they unpack to far more than they are', async () => {
      assert.match(await refused(gzipSync(Buffer.alloc(80 * 1024 * 1024))), /PAYLOAD_TOO_LARGE/);
    });

    it('are refused when a file is missing or does not belong, every one named', async () => {
      assert.match(await refused(await archiveOf({ 'bundle.js': '' })), /INVALID_BUNDLE: .*funcatron.json is missing/);
      const get = { operationId: 'get', responses: { '200': { description: 'ok' } } };
      const document = JSON.stringify({
        openapi: '3.1.0',
        info: { title: 'x', version: '1' },
        paths: { '/': { get } },
      });
      const { json } = await tron.call('POST', '/v1/bundles', {
        body: await archiveOf({ 'funcatron.json': document, 'README.md': '' }),
      });
      assert.deepEqual(
        json.problems.map(({ message }: { message: string }) => message),
        ['README.md does not belong in a packed bundle', 'bundle.js is missing'],
      );
    });

    it('are refused with file, line and pointer when the document is bad', async () => {
      const document = '{\n"openapi": "3.1.0",\n"info": {"title": "x", "version": "1"},\n"paths": 7}';
      const { json } = await tron.call('POST', '/v1/bundles', {
        body: await archiveOf({ 'funcatron.json': document, 'bundle.js': '' }),
      });
      assert.equal(json.code, 'INVALID_BUNDLE');
      assert.equal(json.problems[0].file, 'funcatron.json');
      assert.equal(json.problems[0].line, 4);
    });

    it('are refused when their digest is not the one that was promised', async () => {
      assert.match(await refused(await pack('orders'), `?digest=${'0'.repeat(64)}`), /DIGEST_MISMATCH/);
    });

    it('are refused without a body, and with a content type that is none of theirs', async () => {
      const empty = await tron.call('POST', '/v1/bundles');
      assert.equal(empty.json.code, 'INVALID_REQUEST');
      const json = await tron.call('POST', '/v1/bundles', { body: { bundle: 'orders' } });
      assert.equal(json.json.code, 'UNSUPPORTED_MEDIA_TYPE');
    });

    it('that break off leave nothing behind', async () => {
      const archive = await pack('orders');
      const { port } = new URL(tron.url);
      const upload = request({
        port,
        method: 'POST',
        path: '/v1/bundles',
        headers: {
          authorization: `Bearer ${TOKEN}`,
          'content-type': 'application/gzip',
          'content-length': archive.length,
        },
      });
      upload.on('error', () => {});
      upload.write(archive.subarray(0, 100));
      await until('it arrived', () => upload.socket?.bytesWritten !== undefined && upload.socket.bytesWritten > 100);
      upload.destroy();
      assert.equal((await tron.call('GET', '/v1/bundles')).status, 200);
      assert.deepEqual(await cluster.store.keys('bundle/'), []);
    });
  });

  it('keeps 20 spare revisions and deletes older ones', async () => {
    await cluster.runner('r1');
    for (let n = 0; n < 22; n++) {
      const stored = await tron.call('POST', '/v1/bundles?live=false', { body: await pack('orders', `spare ${n}`) });
      assert.equal(stored.status, 201);
    }
    assert.equal((await tron.call('POST', '/v1/bundles', { body: await pack('orders', 'live') })).status, 201);
    const versions = async (): Promise<string[]> => {
      const { json } = await tron.call('GET', '/v1/bundles/orders/revisions');
      return json.revisions.map(({ version }: { version: string }) => version);
    };
    await until('the oldest are deleted', async () => (await versions()).length === 21);
    assert.deepEqual([(await versions())[0], (await versions()).at(-1)], ['spare 2', 'live']);
    const records = (await cluster.store.keys('bundle/')).filter((key) => key.endsWith('/record'));
    assert.equal(records.length, 21);
  });

  it('says which flag to change when its port is taken', async () => {
    const { port } = tron;
    await assert.rejects(cluster.tron({ tronPort: port }), (error: FuncatronError) => {
      assert.equal(error.code, 'INVALID_CONFIG');
      assert.match(error.message, new RegExp(`port ${port}`));
      assert.match(String(error.data.hint), /--tron-port/);
      return true;
    });
  });

  describe('requests', () => {
    it('get 404 and 405 with Allow, and every violation of the document', async () => {
      assert.equal((await tron.call('GET', '/v1/nothing')).json.code, 'NOT_FOUND');
      const method = await tron.call('PATCH', '/v1/bundles');
      assert.equal(method.status, 405);
      assert.equal(method.headers.get('allow'), 'GET, HEAD, OPTIONS, POST');
      const name = await tron.call('GET', '/v1/bundles/UPPER');
      assert.equal(name.json.problems[0].pointer, '/path/bundle');
      const logs = await tron.call('GET', '/v1/logs?level=loud&limit=0&since=yesterday');
      assert.equal(logs.json.problems.length, 3);
      assert.equal((await tron.call('GET', '/v1/bundles/none')).json.code, 'NOT_FOUND');
    });

    it('with a body that is too long get 413', async () => {
      const small = await cluster.tron({ maxQueueBodyBytes: 1_024 });
      const long = await small.call('POST', '/v1/bundles/a/operations/b/invoke', { body: Buffer.alloc(2_000) });
      assert.equal(long.status, 413);
    });
  });

  describe('invoke', () => {
    it('sends the call over funcatron.call and gives the answer of the func as it is', async () => {
      await cluster.runner('r1');
      assert.equal((await tron.call('POST', '/v1/bundles', { body: await pack('orders') })).status, 201);
      await cluster.broker.consume('ev.orders', { prefetch: 1 }, (delivery) => {
        const { replyTo = '', correlationId = '', headers, contentType } = delivery.properties;
        const seen = { key: delivery.routingKey, headers, contentType, body: delivery.body.toString() };
        void cluster.broker.publish({
          exchange: '',
          routingKey: replyTo,
          body: Buffer.from(JSON.stringify(seen)),
          properties: { correlationId, contentType: 'application/json', headers: { 'fn-status': 418 } },
        });
        delivery.ack();
      });
      const answer = await tron.call('POST', '/v1/bundles/orders/operations/getItem/invoke', {
        body: { a: 1 },
        headers: { 'fn-path-id': '7', 'x-other': 'stays here' },
      });
      assert.equal(answer.status, 418);
      assert.deepEqual(answer.json, {
        key: 'orders.getItem',
        headers: { 'fn-path-id': '7' },
        contentType: 'application/json',
        body: '{"a":1}',
      });
      const unknown = await tron.call('POST', '/v1/bundles/orders/operations/nothing/invoke');
      assert.equal(unknown.json.code, 'NOT_FOUND');
    });

    it('answers 504 when nobody does', async () => {
      const hasty = await cluster.tron({ callTimeoutMs: 200 });
      await cluster.runner('r1');
      const archive = await pack('orders', '1', '/orders', { timeoutMs: 200 });
      assert.equal((await hasty.call('POST', '/v1/bundles', { body: archive })).status, 201);
      const late = await hasty.call('POST', '/v1/bundles/orders/operations/getItem/invoke');
      assert.equal(late.json.code, 'TIMEOUT');
    });
  });

  describe('unrouted messages', () => {
    const publish = (key: string, properties: Record<string, unknown>) =>
      cluster.broker.publish({ exchange: CALL_EXCHANGE, routingKey: key, body: Buffer.from('{}'), properties });

    it('get 404 NO_ROUTE when somebody waits for an answer', async () => {
      await until('tron listens', async () => ((await cluster.broker.probe('funcatron.unrouted'))?.consumers ?? 0) > 0);
      await cluster.broker.declare({ queues: [{ name: 'mine', durable: true, arguments: {} }] });
      await publish(callKey('none', 'get'), { replyTo: 'mine', correlationId: 'c1', messageId: 'm1' });
      await until('it is answered', async () => (await cluster.broker.probe('mine'))?.messages === 1);
      const answer = await cluster.broker.take('mine');
      assert.equal(answer?.properties.correlationId, 'c1');
      assert.equal(answer.properties.headers?.['fn-status'], 404);
      assert.equal(answer.properties.contentType, 'application/problem+json');
      const problem = JSON.parse(answer.body.toString());
      assert.equal(problem.code, 'NO_ROUTE');
      assert.equal(problem.callId, 'm1');
    });

    it('are kept as dead letters when nobody waits, or the answer would go where it must not', async () => {
      await until('tron listens', async () => ((await cluster.broker.probe('funcatron.unrouted'))?.consumers ?? 0) > 0);
      await publish(callKey('none', 'get'), { messageId: 'm1', headers: { 'fn-path-id': '7' } });
      await publish(callKey('none', 'get'), { messageId: 'm2', replyTo: 'funcatron.report' });
      await until(
        'both are there',
        async () => (await cluster.broker.probe('funcatron.unrouted.dead'))?.messages === 2,
      );
      const [dead, other] = [
        await cluster.broker.take('funcatron.unrouted.dead'),
        await cluster.broker.take('funcatron.unrouted.dead'),
      ];
      assert.deepEqual(new Set([dead?.properties.messageId, other?.properties.messageId]), new Set(['m1', 'm2']));
      const { headers } = (dead?.properties.messageId === 'm1' ? dead : other)?.properties ?? {};
      assert.equal(headers?.['fn-path-id'], '7');
      assert.equal(headers['fn-error'], 'NO_ROUTE');
      assert.equal(headers['fn-routing-key'], 'none.get');
    });

    it('do not wait for a caller whose queue has no room', async () => {
      await until('tron listens', async () => ((await cluster.broker.probe('funcatron.unrouted'))?.consumers ?? 0) > 0);
      const full = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
      await cluster.broker.declare({ queues: [{ name: 'full', durable: true, arguments: full }] });
      for (let n = 0; n < 100; n++) await publish(callKey('none', 'get'), { replyTo: 'full' });
      await publish(callKey('none', 'get'), { messageId: 'm1' });
      await until(
        'the last one is there',
        async () => (await cluster.broker.probe('funcatron.unrouted.dead'))?.messages === 1,
      );
    });
  });

  describe('logs', () => {
    const CALL = '019a9f3c-0000-7000-8000-000000000001';
    const line = (time: number, message: string, rest: Partial<LogLine> = {}): LogLine => ({
      time,
      level: 'info',
      bundle: 'orders',
      revision: 'aaaaaaaaaaaa',
      runner: 'r1',
      message,
      ...rest,
    });
    const send = async (...lines: LogLine[]): Promise<void> => {
      await until(
        'tron listens',
        async () => ((await cluster.broker.probe(`funcatron.log.${tron.id}`))?.consumers ?? 0) > 0,
      );
      const outcome = await cluster.broker.publish({
        exchange: LOG_EXCHANGE,
        routingKey: 'orders.info',
        body: Buffer.from(JSON.stringify(lines)),
        properties: {},
        mandatory: true,
      });
      assert.equal(outcome, 'accepted');
    };
    const read = async (query: string): Promise<string[]> => {
      const { json } = await tron.call('GET', `/v1/logs${query}`);
      return json.lines.map(({ message }: LogLine) => message);
    };

    it('are kept and filtered by bundle, least level, call and time', async () => {
      await send(line(2_000, 'b', { level: 'warn' }), line(1_000, 'a', { level: 'debug', callId: CALL }));
      await send(line(3_000, 'c', { bundle: 'users', level: 'error' }));
      await until('they are there', async () => (await read('')).length === 3);
      assert.deepEqual(await read(''), ['a', 'b', 'c']);
      assert.deepEqual(await read('?bundle=orders'), ['a', 'b']);
      assert.deepEqual(await read('?level=warn'), ['b', 'c']);
      assert.deepEqual(await read(`?call=${CALL}`), ['a']);
      assert.deepEqual(await read('?since=1970-01-01T00:00:02Z'), ['b', 'c']);
      assert.deepEqual(await read('?limit=1'), ['c']);
      assert.deepEqual(await read('?bundle=constructor'), []);
    });

    it('can be followed as server-sent events, which end when tron stops', async () => {
      await send(line(1_000, 'before'));
      await until('it is there', async () => (await read('')).length === 1);
      const response = await fetch(`${tron.url}/v1/logs?follow=1&bundle=orders`, {
        headers: { authorization: `Bearer ${TOKEN}` },
      });
      assert.equal(response.headers.get('content-type'), 'text/event-stream');
      let text = '';
      const reading = (async () => {
        for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString();
      })();
      await until('the past is there', () => text.includes('"before"'));
      await send(line(2_000, 'after'), line(2_000, 'elsewhere', { bundle: 'users' }));
      await until('the new line is there', () => text.includes('"after"'));
      assert.ok(!text.includes('elsewhere'));
      assert.equal(text.split('\n\n').filter((event) => event.startsWith('data: ')).length, 2);
      await tron.close();
      await reading;
    });
  });
});
