import assert from 'node:assert/strict';
import type { Delivery, MessageProperties } from '../../../core/broker/broker.ts';
import { newId } from '../../../core/id.ts';
import { CALL_EXCHANGE, callKey, deadQueue, eventQueue, retryQueue } from '../../../core/wire/topology.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubAnswer, type StubCall, type StubFunc } from './stub-isolate.ts';
import { openTestRunner, publishSnapshot, snapshotOf, storeBundle, type TestRunner } from './test-runner.ts';

const operations = [
  {
    operationId: 'getOrder',
    path: '/orders/{id}',
    parameters: [
      { name: 'id', in: 'path', required: true, schema: { type: 'integer' }, style: 'simple', explode: false },
      {
        name: 'tag',
        in: 'query',
        required: false,
        schema: { type: 'array', items: { type: 'string' } },
        style: 'form',
        explode: true,
      },
    ],
  },
  { operationId: 'paid', method: 'POST' },
] as const;

describe('runner/triggers/queue', () => {
  let test: TestRunner;
  let seen: StubCall[] = [];
  const replies: Delivery[] = [];

  async function open(funcs: Readonly<Record<string, StubFunc>>, config = {}): Promise<void> {
    seen = [];
    replies.length = 0;
    const watched = Object.entries(funcs).map(([name, func]): [string, StubFunc] => [
      name,
      (call) => {
        seen.push(call);
        return func(call);
      },
    ]);
    test = await openTestRunner({ operations, isolate: createStubIsolate(Object.fromEntries(watched)), config });
    await test.broker.declare({ queues: [{ name: 'answers', durable: false, arguments: {} }] });
    await test.broker.consume('answers', {}, (delivery) => replies.push(delivery));
    await until('events are consumed', async () => (await test.broker.probe(eventQueue('shop')))?.consumers === 1);
  }

  function send(operationId: string, properties: MessageProperties, body = ''): Promise<unknown> {
    const routingKey = callKey('shop', operationId);
    return test.broker.publish({
      exchange: CALL_EXCHANGE,
      routingKey,
      body: Buffer.from(body),
      properties,
      mandatory: true,
    });
  }

  async function answer(): Promise<Delivery> {
    await until('an answer', () => replies.length > 0);
    return replies.shift() ?? assert.fail();
  }

  async function dead(): Promise<Delivery> {
    let letter: Delivery | undefined;
    await until('a dead letter', async () => (letter = await test.broker.take(deadQueue('shop'))) !== undefined);
    return letter ?? assert.fail();
  }

  async function nothingLeft(): Promise<void> {
    await until('nothing is in flight', async () => (await test.report()).revisions[0]?.inFlight === 0);
    await test.runner.close();
    assert.equal((await test.broker.probe(eventQueue('shop')))?.messages, 0);
  }

  afterEach(() => test.close());

  describe('a message with reply_to', () => {
    it('is answered there, with its correlation id, a status and a content type', async () => {
      await open({ getOrder: ({ meta }) => ({ body: JSON.stringify(meta) }) });
      const headers = { 'fn-path-id': '7', 'fn-query-tag': ['a', 'b'], 'fn-header-X-Trace': 't' };
      const messageId = newId();
      await send('getOrder', { replyTo: 'answers', correlationId: 'c1', messageId, headers });
      const { properties, body } = await answer();
      assert.equal(properties.correlationId, 'c1');
      assert.equal(properties.messageId, messageId);
      assert.equal(properties.contentType, 'application/json');
      assert.equal(properties.headers?.['fn-status'], 200);
      const meta = JSON.parse(body.toString()) as Record<string, Record<string, unknown>>;
      assert.deepEqual(meta['params'], { id: 7 });
      assert.deepEqual(meta['query'], { tag: ['a', 'b'] });
      assert.equal(meta['headers']?.['x-trace'], 't');
      assert.equal(seen[0]?.id, messageId);
      await nothingLeft();
    });

    it('gets the headers and the status of reply()', async () => {
      await open({
        paid: () => ({ status: 202, headers: { 'content-type': 'text/plain', etag: 'e' }, body: 'taken' }),
      });
      await send('paid', { replyTo: 'answers' });
      const { properties, body } = await answer();
      assert.equal(properties.headers?.['fn-status'], 202);
      assert.equal(properties.headers?.['fn-header-etag'], 'e');
      assert.equal(properties.contentType, 'text/plain');
      assert.equal(body.toString(), 'taken');
    });

    it('is 400 with every violation when it does not match the document; the func does not run', async () => {
      await open({ getOrder: () => ({}) });
      await send('getOrder', { replyTo: 'answers', headers: { 'fn-path-id': 'seven' } });
      const { properties, body } = await answer();
      const problem = JSON.parse(body.toString()) as { code: string; problems: { pointer: string }[] };
      assert.equal(properties.contentType, 'application/problem+json');
      assert.equal(properties.headers?.['fn-status'], 400);
      assert.equal(problem.code, 'INVALID_REQUEST');
      assert.equal(problem.problems[0]?.pointer, '/path/id');
      assert.deepEqual(seen, []);
    });

    it('is 404 for an operation, an alias or a revision that is not there', async () => {
      await open({ paid: () => ({}) });
      await send('refund', { replyTo: 'answers' });
      assert.equal((await answer()).properties.headers?.['fn-status'], 404);
      await send('paid', { replyTo: 'answers', headers: { 'fn-alias': 'canary' } });
      assert.equal((await answer()).properties.headers?.['fn-status'], 404);
      await send('paid', { replyTo: 'answers', headers: { 'fn-revision': 'ffffffffffff' } });
      assert.equal((await answer()).properties.headers?.['fn-status'], 404);
    });

    it('is dead-lettered when reply_to is one of our own queues', async () => {
      await open({ paid: () => ({}) });
      await send('paid', { replyTo: `fn.shop.${test.bundle.record.revision}` });
      const { properties } = await dead();
      assert.equal(properties.headers?.['fn-error-code'], 'INVALID_REQUEST');
      assert.deepEqual(seen, []);
    });

    it('is acknowledged when nobody is there to be answered', async () => {
      await open({ paid: () => ({}) });
      await send('paid', { replyTo: 'nobody' });
      await until('it ran', () => seen.length === 1);
      await nothingLeft();
    });

    it('does not keep others waiting when there is no room for its answer', async () => {
      await open({ paid: () => ({}) }, { eventPrefetch: 1 });
      const full = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
      await test.broker.declare({ queues: [{ name: 'full', durable: false, arguments: full }] });
      for (let n = 0; n < 3; n++) await send('paid', { replyTo: 'full' });
      await send('paid', { replyTo: 'answers' });
      assert.equal((await answer()).properties.headers?.['fn-status'], 200);
      assert.equal((await test.broker.probe('full'))?.messages, 1);
      await nothingLeft();
    });

    it('is TIMEOUT after its expiration', async () => {
      await open({ paid: () => undefined });
      await send('paid', { replyTo: 'answers', expirationMs: 100 });
      const { properties, body } = await answer();
      assert.equal(properties.headers?.['fn-status'], 504);
      assert.equal((JSON.parse(body.toString()) as { code: string }).code, 'TIMEOUT');
    });

    it('is RUNNER_LOST when its runner died with it and it may not run again', async () => {
      await open({ paid: () => ({}) });
      await redeliver(() => send('paid', { replyTo: 'answers' }));
      assert.equal((JSON.parse((await answer()).body.toString()) as { code: string }).code, 'RUNNER_LOST');
      assert.deepEqual(seen, []);
    });
  });

  /** Another runner takes the message and dies with it. The one under test has nothing to do with events meanwhile. */
  async function redeliver(publish: () => Promise<unknown>): Promise<void> {
    await publishSnapshot(test.broker, test.store, snapshotOf(test.bundle.state(['r1'], 0)));
    await until('no events are consumed', async () => (await test.broker.probe(eventQueue('shop')))?.consumers === 0);
    const other = test.broker.connect();
    const taken: Delivery[] = [];
    await other.consume(eventQueue('shop'), { prefetch: 1 }, (delivery) => taken.push(delivery));
    await publish();
    await until('it is taken', () => taken.length === 1);
    await other.close();
    await publishSnapshot(test.broker, test.store, snapshotOf(test.bundle.state(['r1'])));
  }

  describe('an event', () => {
    it('is acknowledged when the func is done', async () => {
      await open({ paid: () => ({}) });
      await send('paid', { messageId: 'order-7', contentType: 'application/json' }, '{"n":1}');
      await until('it ran', () => seen.length === 1);
      assert.equal(seen[0]?.body.toString(), '{"n":1}');
      assert.match(seen[0]?.id ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-8/);
      await nothingLeft();
    });

    it('is tried again with its id and the next attempt, and done when that succeeds', async () => {
      await open({ paid: ({ attempt }) => ({ status: attempt === 1 ? 500 : 200 }) });
      await send('paid', { headers: { 'x-own': 'kept' } }, 'payload');
      await until('it ran twice', () => seen.length === 2);
      assert.deepEqual(
        seen.map(({ attempt }) => attempt),
        [1, 2],
      );
      assert.equal(seen[1]?.id, seen[0]?.id);
      assert.equal(seen[1]?.body.toString(), 'payload');
      await nothingLeft();
      assert.equal((await test.broker.probe(retryQueue('shop', 1_000)))?.messages, 0);
    });

    it('is dead after its last attempt, with what it died of', async () => {
      const fails: StubAnswer = {
        status: 500,
        flags: 1,
        body: '{"code":"FUNC_ERROR","message":"func paid threw (TypeError)"}',
      };
      await open({ paid: () => fails }, { eventAttempts: 2 });
      await send('paid', { headers: { 'x-own': 'kept' }, contentType: 'text/plain', messageId: newId() }, 'payload');
      const { properties, body } = await dead();
      assert.equal(seen.length, 2);
      assert.equal(body.toString(), 'payload');
      assert.equal(properties.contentType, 'text/plain');
      assert.equal(properties.messageId, seen[0]?.id);
      const { headers = {} } = properties;
      assert.equal(headers['fn-error-code'], 'FUNC_ERROR');
      assert.equal(headers['fn-error-message'], 'func paid threw (TypeError)');
      assert.equal(headers['fn-attempts'], 2);
      assert.equal(headers['fn-revision'], test.bundle.record.revision);
      assert.equal(headers['fn-operation'], 'paid');
      assert.equal(headers['x-own'], 'kept');
      assert.ok(!Number.isNaN(Date.parse(String(headers['fn-died-at']))));
      await nothingLeft();
    });

    it('is dead at once when the func refuses it (4xx), or when it does not match the document', async () => {
      await open({ paid: () => ({ status: 422 }), getOrder: () => ({}) });
      await send('paid', {});
      assert.equal((await dead()).properties.headers?.['fn-error-message'], 'the func answered 422');
      await send('getOrder', { headers: { 'fn-path-id': 'x' } });
      assert.equal((await dead()).properties.headers?.['fn-error-code'], 'INVALID_REQUEST');
      assert.equal(seen.length, 1);
      await until('the log has both', () => test.lines.length === 2);
      const [refused, unread] = test.lines;
      assert.equal(refused?.message, 'dead-lettered at attempt 1: FUNC_ERROR: the func answered 422');
      assert.deepEqual([refused?.level, refused?.operationId], ['error', 'paid']);
      assert.equal(refused?.callId, seen[0]?.id);
      assert.match(unread?.message ?? '', /^dead-lettered at attempt 1: INVALID_REQUEST: /);
      assert.ok(Array.isArray(unread?.fields?.['problems']));
    });

    it('counts a delivery whose runner died as an attempt', async () => {
      await open({ paid: () => ({}) });
      await redeliver(() => send('paid', {}));
      await until('it ran', () => seen.length === 1);
      assert.equal(seen[0]?.attempt, 2);
    });

    it('is dead when its runners died with it too often', async () => {
      await open({ paid: () => ({}) }, { eventAttempts: 1 });
      await redeliver(() => send('paid', {}));
      assert.equal((await dead()).properties.headers?.['fn-error-code'], 'RUNNER_LOST');
      assert.deepEqual(seen, []);
    });

    it('is retried, and not run at once in the next worker, when its worker dies', async () => {
      await open({
        paid({ worker, attempt }) {
          if (attempt > 1) return {};
          setImmediate(() => worker.die());
          return undefined;
        },
      });
      await send('paid', {});
      await until('it ran again', () => seen.length === 2);
      assert.equal(seen[1]?.attempt, 2);
      await nothingLeft();
    });

    it('is never lost when the broker goes away while it runs', async () => {
      const ends = Promise.withResolvers<StubAnswer>();
      await open({ paid: () => ends.promise });
      await send('paid', {});
      await until('it runs', () => seen.length === 1);
      await test.runnerBroker.close();
      assert.equal((await test.broker.probe(eventQueue('shop')))?.messages, 1);
      ends.resolve({});
    });
  });

  it('calls a revision another runner holds over its queue', async () => {
    await open({ paid: () => ({}) });
    const elsewhere = await storeBundle(test.store, { operations });
    const state = test.bundle.state(['r1']);
    const there = elsewhere.state(['r2']).revisions;
    const isolate = createStubIsolate({ paid: () => ({ body: '"from r2"' }) });
    const both = { ...state, revisions: [...state.revisions, ...there] };
    await publishSnapshot(test.broker, test.store, snapshotOf(both));
    const { openRunner } = await import('../../../runner/main.ts');
    const { silent, testConfig } = await import('./test-runner.ts');
    const second = await openRunner({
      config: testConfig(`${test.folder}/second`),
      broker: test.broker.connect(),
      store: test.store,
      log: silent,
      id: 'r2',
      isolate,
    });
    await until('it is there', async () => (await test.broker.probe(elsewhere.queue))?.consumers === 1);
    await send('paid', { replyTo: 'answers', headers: { 'fn-revision': elsewhere.record.revision } });
    assert.equal((await answer()).body.toString(), '"from r2"');
    await second.close();
  });

  it('chooses among the held revisions by weight', async () => {
    const ran = new Set<string>();
    await open({ paid: ({ worker }) => (ran.add(worker.spec.revision), {}) });
    const other = await storeBundle(test.store, { operations });
    const [first, second] = [test.bundle.state(['r1']), other.state(['r1'])];
    const weights = { ...first.weights, ...second.weights };
    const both = { ...first, weights, revisions: [...first.revisions, ...second.revisions] };
    await publishSnapshot(test.broker, test.store, snapshotOf(both));
    await until('both are held', async () => (await test.broker.probe(other.queue))?.consumers === 1);
    await until('both ran', async () => (await send('paid', {}), ran.size === 2));
  });
});
