import assert from 'node:assert/strict';
import { RpcTarget } from '../../../core/broker/batch.ts';
import type { Delivery } from '../../../core/broker/broker.ts';
import { newId, parseId } from '../../../core/id.ts';
import { CallFlag, encodeCalls, Envelope } from '../../../core/wire/envelope.ts';
import { cancelExchange } from '../../../core/wire/topology.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubCall, type StubIsolate } from './stub-isolate.ts';
import { call, gate, openTestRunner, type TestRunner } from './test-runner.ts';

const operations = [{ operationId: 'first' }, { operationId: 'second' }];

describe('runner/dispatch', () => {
  let test: TestRunner;
  let seen: StubCall[] = [];

  function never(call: StubCall): undefined {
    seen.push(call);
  }
  function answers(call: StubCall): { body: string } {
    seen.push(call);
    return { body: JSON.stringify({ attempt: call.attempt }) };
  }

  beforeEach(() => {
    seen = [];
  });
  afterEach(() => test.close());

  it('answers a call with what the func answered', async () => {
    const isolate = createStubIsolate({ first: ({ body }) => ({ status: 201, body }) });
    test = await openTestRunner({ operations, isolate });
    const { status, body } = await test.call(0, { body: '{"a":1}' });
    assert.equal(status, 201);
    assert.equal(body, '{"a":1}');
  });

  it('passes a batch on as it came, and its answers do not wait for the slowest of them', async () => {
    const slow = Promise.withResolvers<{ body: string }>();
    const isolate = createStubIsolate({ first: () => slow.promise, second: answers });
    test = await openTestRunner({ operations, isolate });
    const late = test.call(0);
    const early = await test.call(1);
    assert.equal(early.status, 200);
    assert.deepEqual(isolate.workers[0]?.sizes, [2]);
    slow.resolve({ body: '"done"' });
    assert.equal((await late).body, '"done"');
  });

  it('runs as many calls at once as it has slots, when each comes in a message of its own', async () => {
    const all = Promise.withResolvers<{ body: string }>();
    const isolate = createStubIsolate({
      first(one) {
        if (seen.push(one) === 100) all.resolve({ body: '1' });
        return all.promise;
      },
    });
    test = await openTestRunner({ operations, isolate });
    const target = new RpcTarget(test.bundle.queue, 1);
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => call(test.rpc, target, 0)));
    assert.ok(outcomes.every(({ status }) => status === 200));
    assert.equal((await test.report()).revisions[0]?.inFlight, 0);
  });

  it('acknowledges a message only when the broker has its answer', async () => {
    const isolate = createStubIsolate({ first: answers });
    let held: ReturnType<typeof gate> | undefined;
    test = await openTestRunner({
      operations,
      isolate,
      wrap: (broker) => (held = gate(broker, ({ properties }) => properties.type === 'replies')).broker,
    });
    const outcome = test.call(0);
    await until('the func ran', () => seen.length === 1);
    await test.runnerBroker.close();
    assert.equal((await test.broker.probe(test.bundle.queue))?.messages, 1);
    held?.open();
    await test.rpc.close();
    await outcome;
  });

  it('has acknowledged a message when its answer was confirmed', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate({ first: answers }) });
    await test.call(0);
    await until('nothing is in flight', async () => (await test.report()).revisions[0]?.inFlight === 0);
    await test.runnerBroker.close();
    assert.equal((await test.broker.probe(test.bundle.queue))?.messages, 0);
  });

  it('drops the answer when its frontend is gone, and acknowledges', async () => {
    const answer = Promise.withResolvers<{ body: string }>();
    test = await openTestRunner({ operations, isolate: createStubIsolate({ first: () => answer.promise }) });
    const outcome = test.call(0);
    await until('it is in flight', async () => (await test.report()).revisions[0]?.inFlight === 1);
    await test.rpc.close();
    await outcome;
    answer.resolve({ body: '1' });
    await until('nothing is in flight', async () => (await test.report()).revisions[0]?.inFlight === 0);
    const metrics = await (await fetch(`http://127.0.0.1:${test.runner.adminPort}/metrics`)).text();
    assert.match(metrics, /funcatron_runner_replies_dropped_total\{reason="returned"\} 1/);
  });

  it('does not start a call whose deadline passed while it waited for a slot', async () => {
    const first = Promise.withResolvers<{ body: string }>();
    const isolate = createStubIsolate({ first: () => first.promise, second: answers });
    const manifest = { concurrency: 1, workers: { min: 1, max: 2 } };
    test = await openTestRunner({ operations, isolate, manifest });
    isolate.startGate = new Promise(() => undefined);
    const running = test.call(0);
    await until('it runs', () => isolate.workers[0]?.sizes.length === 1);
    const late = await test.call(1, { timeoutMs: 150 });
    assert.equal(late.code, 'timeout');
    await until('it is forgotten', async () => (await test.report()).revisions[0]?.inFlight === 1);
    first.resolve({ body: '1' });
    await running;
    assert.deepEqual(seen, []);
  });

  it('drops a call that was cancelled before it came', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate({ first: answers, second: answers }) });
    const id = newId();
    await test.broker.publish({
      exchange: cancelExchange.name,
      routingKey: '',
      body: parseId(id) ?? Buffer.alloc(0),
      properties: {},
    });
    const other = test.call(1);
    assert.equal((await test.call(0, { id, timeoutMs: 200 })).code, 'timeout');
    assert.equal((await other).status, 200);
    assert.deepEqual(
      seen.map((call) => call.operationId),
      ['second'],
    );
  });

  it('aborts a running call that is cancelled', async () => {
    const isolate = createStubIsolate({ first: never });
    test = await openTestRunner({ operations, isolate });
    const id = newId();
    const outcome = test.call(0, { id, timeoutMs: 300 });
    await until('it runs', () => seen.length === 1);
    const body = parseId(id) ?? Buffer.alloc(0);
    await test.broker.publish({ exchange: cancelExchange.name, routingKey: '', body, properties: {} });
    await until('it is aborted', () => isolate.workers[0]?.cancelled.includes(id) === true);
    await outcome;
  });

  it('drops a message that holds no calls', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate({ first: answers }) });
    await test.broker.publish({
      exchange: '',
      routingKey: test.bundle.queue,
      body: Buffer.from('not an envelope'),
      properties: { replyTo: 'x' },
    });
    assert.equal((await test.call(0)).status, 200);
    await until('nothing is in flight', async () => (await test.report()).revisions[0]?.inFlight === 0);
    await test.runnerBroker.close();
    assert.equal((await test.broker.probe(test.bundle.queue))?.messages, 0);
  });

  describe('a message some runner died with', () => {
    /** Another runner takes what is published, and dies with it; then the runner under test begins. */
    async function died(isolate: StubIsolate, publish: () => Promise<unknown>): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      isolate.startGate = promise;
      test = await openTestRunner({ operations, isolate, waits: false });
      await until('the queue is there', async () => (await test.broker.probe(test.bundle.queue)) !== undefined);
      const other = test.broker.connect();
      const taken: Delivery[] = [];
      await other.consume(test.bundle.queue, { prefetch: 10 }, (delivery) => taken.push(delivery));
      const published = publish();
      await until('it is taken', () => taken.length === 1);
      await other.close();
      resolve();
      await published;
    }

    it('runs again call by call where that is harmless, and is RUNNER_LOST where it is not', async () => {
      const isolate = createStubIsolate({ first: answers, second: answers });
      await died(isolate, async () => {
        const [get, post] = await Promise.all([test.call(0), test.call(1, { mayRerun: false })]);
        assert.deepEqual(JSON.parse(get.body), { attempt: 2 });
        assert.equal(post.code, 'RUNNER_LOST');
        assert.equal(post.status, 502);
      });
      assert.equal(seen.length, 1);
    });

    it('is FUNC_CRASHED when that happens to it a second time', async () => {
      const isolate = createStubIsolate({ first: answers });
      const queue = `reply.${newId()}`;
      const id = parseId(newId()) ?? Buffer.alloc(16);
      await died(isolate, async () => {
        await test.broker.declare({ queues: [{ name: queue, durable: true, arguments: {} }] });
        const record = { id, deadline: Date.now() + 5_000, operation: 0, flags: CallFlag.mayRerun, attempt: 2 };
        await test.broker.publish({
          exchange: '',
          routingKey: test.bundle.queue,
          body: encodeCalls([{ ...record, meta: '', body: undefined }]),
          properties: { replyTo: queue },
        });
      });
      let reply: Delivery | undefined;
      await until('it is answered', async () => (reply = await test.broker.take(queue)) !== undefined);
      const envelope = new Envelope(reply?.body ?? Buffer.alloc(0));
      assert.ok(envelope.id(0).equals(id));
      assert.equal((JSON.parse(envelope.body(0).toString()) as { code: string }).code, 'FUNC_CRASHED');
      assert.deepEqual(seen, []);
    });
  });

  it('goes on with the calls it runs when only its connection was lost', async () => {
    const answer = Promise.withResolvers<{ body: string }>();
    const isolate = createStubIsolate({ first: () => answer.promise });
    test = await openTestRunner({ operations, isolate });
    const id = newId();
    const outcome = test.call(0, { id, mayRerun: false });
    await until('it runs', () => isolate.workers[0]?.sizes.length === 1);
    // The broker delivers again what the lost connection had not acknowledged; here: the same message, once more.
    const record = { id: parseId(id) ?? Buffer.alloc(16), deadline: Date.now() + 5_000, operation: 0, flags: 0 };
    await test.broker.publish({
      exchange: '',
      routingKey: test.bundle.queue,
      body: encodeCalls([{ ...record, attempt: 1, meta: '', body: undefined }]),
      properties: { replyTo: test.replyQueue },
    });
    await until('both are held', async () => (await test.report()).revisions[0]?.inFlight === 2);
    answer.resolve({ body: '1' });
    assert.equal((await outcome).status, 200);
    await until('both are settled', async () => (await test.report()).revisions[0]?.inFlight === 0);
    assert.deepEqual(isolate.workers[0]?.sizes, [1]);
  });
});
