import assert from 'node:assert/strict';
import type { Delivery } from '../../../core/broker/broker.ts';
import { delay } from '../../../core/lifecycle.ts';
import { parseId } from '../../../core/id.ts';
import { CallFlag, encodeCalls, Envelope } from '../../../core/wire/envelope.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubAnswer, type StubCall } from './stub-isolate.ts';
import { openTestRunner, type TestRunner } from './test-runner.ts';

const operations = [{ operationId: 'first' }, { operationId: 'second' }];
const ok: StubAnswer = { body: '"ok"' };

describe('runner/host', () => {
  let test: TestRunner;

  afterEach(() => test.close());

  describe('when a worker dies', () => {
    it('answers FUNC_CRASHED to a call that may not run again, and runs the others in a fresh worker', async () => {
      const attempts: number[] = [];
      const isolate = createStubIsolate({
        first(call) {
          attempts.push(call.attempt);
          return call.attempt === 1 ? undefined : ok;
        },
        second: () => undefined,
      });
      test = await openTestRunner({ operations, isolate });
      const get = test.call(0);
      const post = test.call(1, { mayRerun: false });
      await until('both run', () => isolate.workers[0]?.sizes[0] === 2);
      isolate.workers[0]?.die();
      assert.equal((await post).code, 'FUNC_CRASHED');
      assert.equal((await get).status, 200);
      assert.deepEqual(attempts, [1, 2]);
      assert.equal(isolate.workers.length, 2);
    });

    it('runs a call that kills its worker no more than twice', async () => {
      const isolate = createStubIsolate({
        first({ worker }) {
          setImmediate(() => worker.die());
          return undefined;
        },
        second: () => ok,
      });
      test = await openTestRunner({ operations, isolate });
      assert.equal((await test.call(0)).code, 'FUNC_CRASHED');
      assert.equal(isolate.workers.filter((worker) => worker.exit !== undefined).length, 2);
      assert.equal((await test.call(1)).status, 200);
    });
  });

  it('kills a worker that is blocked past a deadline; its mates run again', async () => {
    const isolate = createStubIsolate({
      first(call) {
        call.worker.isBlocked = true;
        return undefined;
      },
      second: (call) => (call.attempt === 1 ? undefined : ok),
    });
    test = await openTestRunner({ operations, isolate });
    const mate = test.call(1);
    const blocked = test.call(0, { timeoutMs: 200 });
    assert.equal((await blocked).code, 'timeout');
    assert.equal((await mate).status, 200);
    assert.equal(isolate.workers[0]?.exit?.reason, 'killed');
  });

  it('retires a worker whose func does not end an aborted call; its mates end where they are', async () => {
    const mateEnds = Promise.withResolvers<StubAnswer>();
    const isolate = createStubIsolate({ first: () => undefined, second: () => mateEnds.promise });
    test = await openTestRunner({ operations, isolate });
    const mate = test.call(1);
    await until('it runs', () => isolate.workers[0]?.sizes.length === 1);
    const leaky = await test.call(0, { timeoutMs: 100 });
    assert.equal(leaky.code, 'timeout');
    await until('a second worker is there', () => isolate.workers.length === 2);
    assert.notEqual(isolate.workers[0]?.cancelled.length, 0);
    assert.equal(isolate.workers[0]?.exit, undefined);
    mateEnds.resolve(ok);
    assert.equal((await mate).status, 200);
    await until('the first worker has ended', () => isolate.workers[0]?.exit?.reason === 'closed');
  });

  it('starts more workers when the slots are taken, and splits a batch over them', async () => {
    const calls: StubCall[] = [];
    const end = Promise.withResolvers<StubAnswer>();
    const isolate = createStubIsolate({
      first(call) {
        calls.push(call);
        return end.promise;
      },
    });
    test = await openTestRunner({ operations, isolate, manifest: { concurrency: 4, workers: { min: 1, max: 2 } } });
    const outcomes = Array.from({ length: 8 }, () => test.call(0));
    await until('all run', () => calls.length === 8);
    assert.deepEqual(
      isolate.workers.map(({ sizes }) => sizes.reduce((sum, size) => sum + size, 0)),
      [4, 4],
    );
    end.resolve(ok);
    assert.ok((await Promise.all(outcomes)).every(({ status }) => status === 200));
  });

  it('keeps the attempt of every call of a batch when it splits it, and when it runs some of it again', async () => {
    const seen: string[] = [];
    const isolate = createStubIsolate({
      first(call) {
        seen.push(`${call.id.slice(-1)} attempt ${call.attempt}`);
        return call.attempt === 3 ? ok : undefined;
      },
    });
    test = await openTestRunner({ operations, isolate, manifest: { concurrency: 2, workers: { min: 1, max: 2 } } });
    const id = (last: number): Buffer => parseId(`0193aaaa-0000-7000-8000-00000000000${last}`) ?? assert.fail();
    const record = { deadline: Date.now() + 1_000, operation: 0, flags: CallFlag.mayRerun, meta: '', body: undefined };
    const attempts = [1, 2, 1];
    await test.broker.publish({
      exchange: '',
      routingKey: test.bundle.queue,
      body: encodeCalls(attempts.map((attempt, index) => ({ ...record, id: id(index + 1), attempt }))),
      properties: { replyTo: test.replyQueue },
    });
    await until('all run', () => seen.length === 3);
    assert.deepEqual(seen, ['1 attempt 1', '2 attempt 2', '3 attempt 1']);
    isolate.workers[0]?.die();
    await until('what may run again does', () => seen.length === 4);
    assert.equal(seen[3], '1 attempt 2');
  });

  it('gives a call back to its queue when others wait before it for a slot; it does not look redelivered', async () => {
    const isolate = createStubIsolate({ first: () => undefined });
    test = await openTestRunner({ operations, isolate, manifest: { concurrency: 1, workers: { min: 1, max: 3 } } });
    isolate.startGate = new Promise(() => undefined);
    const outcomes: Promise<unknown>[] = [];
    for (const count of [1, 2]) {
      outcomes.push(test.call(0, { timeoutMs: 2_000 }));
      await until('it is held', async () => (await test.report()).revisions[0]?.inFlight === count);
    }
    outcomes.push(test.call(0, { timeoutMs: 2_000 }));
    const taken: Delivery[] = [];
    const other = test.broker.connect();
    await other.consume(test.bundle.queue, { prefetch: 10 }, (delivery) => taken.push(delivery));
    await until('another runner has it', () => taken.length === 1);
    assert.equal(taken[0]?.redelivered, false);
    assert.equal(taken[0]?.properties.replyTo, test.replyQueue);
    taken[0]?.ack();
    await Promise.all(outcomes);
  });

  it('answers OVERLOADED to a call that found no slot in time, wherever it waited, and says when to come again', async () => {
    const isolate = createStubIsolate({ first: () => undefined });
    test = await openTestRunner({
      operations,
      isolate,
      manifest: { concurrency: 1, workers: { min: 1, max: 3 } },
      config: { slotTimeoutMs: 700 },
    });
    isolate.startGate = new Promise(() => undefined);
    const running = test.call(0, { timeoutMs: 5_000 });
    await until('it is held', async () => (await test.report()).revisions[0]?.inFlight === 1);
    // One at the head of the line, the others behind it, who go to the queue and come back.
    const waiting = Array.from({ length: 4 }, () => test.call(0, { timeoutMs: 4_000 }));
    for (const { code, body } of await Promise.all(waiting)) {
      assert.equal(code, 'OVERLOADED');
      assert.deepEqual((JSON.parse(body) as { data: unknown }).data, { retryAfterS: 1 });
    }
    isolate.workers[0]?.die();
    await running;
  });

  it('on close gives back what it has not started, finishes the rest, and acknowledges both', async () => {
    const ends = Promise.withResolvers<StubAnswer>();
    const isolate = createStubIsolate({ first: () => ends.promise });
    test = await openTestRunner({ operations, isolate, manifest: { concurrency: 2, workers: { min: 1, max: 2 } } });
    isolate.startGate = new Promise(() => undefined);
    const outcomes = Array.from({ length: 4 }, () => test.call(0, { mayRerun: false }));
    await until('four are held', async () => (await test.report()).revisions[0]?.inFlight === 4);
    const closing = test.runner.close();
    const taken: Delivery[] = [];
    const other = test.broker.connect();
    await other.consume(test.bundle.queue, { prefetch: 10 }, (delivery) => taken.push(delivery));
    await until('another runner has two', () => countCalls(taken) === 2);
    assert.ok(taken.every(({ redelivered }) => !redelivered));
    for (const delivery of taken) delivery.ack();
    ends.resolve(ok);
    await closing;
    assert.equal((await test.broker.probe(test.bundle.queue))?.messages, 0);
    await test.rpc.close();
    const statuses = (await Promise.all(outcomes)).map(({ status }) => status);
    assert.deepEqual(
      statuses.toSorted((a, b) => a - b),
      [0, 0, 200, 200],
    );
  });

  it('on close ends what does not end in time: those calls go elsewhere, or are RUNNER_LOST', async () => {
    const isolate = createStubIsolate({ first: () => undefined, second: () => undefined });
    test = await openTestRunner({ operations, isolate, config: { drainMs: 100 } });
    const get = test.call(0);
    const post = test.call(1, { mayRerun: false });
    await until('both are held', async () => (await test.report()).revisions[0]?.inFlight === 2);
    await test.runner.close();
    assert.equal((await post).code, 'RUNNER_LOST');
    assert.equal((await test.broker.probe(test.bundle.queue))?.messages, 1);
    await test.rpc.close();
    await get;
  });

  it('stops consuming while no worker stays alive, says so, and comes back', async () => {
    const isolate = createStubIsolate({ first: () => ok });
    test = await openTestRunner({ operations, isolate });
    for (let crash = 0; crash < 5; crash++) isolate.startFailures.push(new Error('no more memory'));
    isolate.workers[0]?.die();
    await until('it consumes nothing', async () => (await test.broker.probe(test.bundle.queue))?.consumers === 0);
    await until('it says why', () =>
      test.reports.some(
        ({ revisions: [held] }) => held?.state === 'failed' && held.error?.message === 'no more memory',
      ),
    );
    await until('it consumes again', async () => (await test.broker.probe(test.bundle.queue))?.consumers === 1);
    assert.equal((await test.call(0)).status, 200);
    await until('it is ready', async () => (await test.report()).revisions[0]?.state === 'ready');
  });

  it('leaves no timer and no worker behind when it closes while a worker starts', async () => {
    const isolate = createStubIsolate({ first: () => ok });
    const { promise, resolve } = Promise.withResolvers<void>();
    isolate.startGate = promise;
    test = await openTestRunner({ operations, isolate, waits: false });
    const closing = test.runner.close();
    await delay(20);
    resolve();
    await closing;
    await until('none is alive', () => isolate.alive().length === 0);
  });
});

function countCalls(deliveries: readonly Delivery[]): number {
  return deliveries.reduce((sum, { body }) => sum + new Envelope(body).count, 0);
}
