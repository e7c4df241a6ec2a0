import assert from 'node:assert/strict';
import type { Manifest } from '../../../core/bundle/manifest.ts';
import type { Config } from '../../../core/config.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubAnswer, type StubIsolate } from './stub-isolate.ts';
import { openTestRunner, publishSnapshot, snapshotOf, storeBundle, call, type TestRunner } from './test-runner.ts';
import { RpcTarget } from '../../../core/broker/batch.ts';

const operations = [{ operationId: 'first' }];
const ok: StubAnswer = { body: '"ok"' };

describe('a revision that scales to zero', () => {
  let test: TestRunner;
  let isolate: StubIsolate;

  afterEach(() => test.close());

  async function open(manifest: Partial<Manifest>, config: Partial<Config> = {}, func = (): StubAnswer => ok) {
    isolate = createStubIsolate({ first: func });
    test = await openTestRunner({ operations, isolate, manifest: { idleTimeoutS: 0.1, ...manifest }, config });
  }

  const isAtZero = (): Promise<void> => until('no worker is left', () => isolate.alive().length === 0);

  it('starts a worker when it comes, ends it when it is idle, and stays ready without', async () => {
    await open({ workers: { min: 0, max: 2 } });
    assert.equal(isolate.workers.length, 1);
    await isAtZero();
    assert.equal(isolate.workers[0]?.exit?.reason, 'closed');
    const [held] = (await test.report()).revisions;
    assert.deepEqual([held?.state, held?.workers, held?.error], ['ready', 0, undefined]);
    assert.equal((await test.broker.probe(test.bundle.queue))?.consumers, 1);
  });

  it('does not come up when its first worker does not', async () => {
    isolate = createStubIsolate({ first: () => ok });
    isolate.startFailures.push(new Error('init says no'));
    const manifest = { workers: { min: 0, max: 1 } };
    test = await openTestRunner({ operations, isolate, manifest, waits: false });
    await until('it says so', () => test.reports.at(-1)?.revisions[0]?.error?.message === 'init says no');
  });

  it('starts a worker for a call, and goes back to zero, again and again', async () => {
    await open({ workers: { min: 0, max: 1 } });
    for (let round = 1; round <= 3; round++) {
      await isAtZero();
      assert.equal((await test.call()).status, 200);
      assert.equal(isolate.workers.length, round + 1);
    }
    assert.equal((await test.report()).revisions[0]?.state, 'ready');
  });

  it('answers 20 calls that come at once with one worker, when it has room for them', async () => {
    await open({ workers: { min: 0, max: 2 } });
    await isAtZero();
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => test.call()));
    assert.ok(outcomes.every(({ status }) => status === 200));
    assert.equal(isolate.workers.length, 2);
  });

  it('starts as many as it may when calls come for more than one', async () => {
    const ends = Promise.withResolvers<StubAnswer>();
    isolate = createStubIsolate({ first: () => ends.promise });
    const manifest = { idleTimeoutS: 0.1, concurrency: 2, workers: { min: 0, max: 3 } };
    test = await openTestRunner({ operations, isolate, manifest });
    await isAtZero();
    const outcomes = Array.from({ length: 8 }, () => test.call());
    await until('three serve', () => isolate.alive().length === 3);
    ends.resolve(ok);
    assert.ok((await Promise.all(outcomes)).every(({ status }) => status === 200));
    assert.equal(isolate.workers.length, 4);
    await isAtZero();
  });

  it('leaves the minimum running', async () => {
    const ends = Promise.withResolvers<StubAnswer>();
    isolate = createStubIsolate({ first: () => ends.promise });
    const manifest = { idleTimeoutS: 0.1, concurrency: 1, workers: { min: 2, max: 4 } };
    test = await openTestRunner({ operations, isolate, manifest });
    const outcomes = Array.from({ length: 4 }, () => test.call());
    await until('four serve', () => isolate.alive().length === 4);
    ends.resolve(ok);
    await Promise.all(outcomes);
    await until('two are left', () => isolate.alive().length === 2);
    for (let look = 0; look < 2; look++) assert.equal((await test.report()).revisions[0]?.workers, 2);
    assert.equal(isolate.workers.length, 4);
  });

  it('does not end a worker that runs a call, however long that takes', async () => {
    const ends = Promise.withResolvers<StubAnswer>();
    isolate = createStubIsolate({ first: () => ends.promise });
    const manifest = { idleTimeoutS: 0.1, workers: { min: 0, max: 1 } };
    test = await openTestRunner({ operations, isolate, manifest });
    const outcome = test.call();
    for (let look = 0; look < 3; look++) assert.equal((await test.report()).revisions[0]?.workers, 1);
    ends.resolve(ok);
    assert.equal((await outcome).status, 200);
    await isAtZero();
    assert.equal(isolate.workers.length, 1);
  });

  it('does not start a worker again that dies while nobody calls, and does when somebody does', async () => {
    await open({ idleTimeoutS: 60, workers: { min: 0, max: 1 } });
    isolate.workers[0]?.die();
    const [held] = (await test.report()).revisions;
    assert.deepEqual([held?.state, held?.workers], ['ready', 0]);
    assert.equal((await test.call()).status, 200);
    assert.equal(isolate.workers.length, 2);
  });

  it('tries again for calls that wait when a worker does not start', async () => {
    await open({ workers: { min: 0, max: 1 } });
    await isAtZero();
    isolate.startFailures.push(new Error('once'), new Error('twice'));
    assert.equal((await test.call()).status, 200);
  });

  it('is OVERLOADED when no worker starts in time', async () => {
    await open({ workers: { min: 0, max: 1 } }, { slotTimeoutMs: 200 });
    await isAtZero();
    isolate.startGate = new Promise(() => undefined);
    assert.equal((await test.call()).code, 'OVERLOADED');
  });

  it('gives its room to another bundle when the runner is full and it is idle', async () => {
    await open({ idleTimeoutS: 60, workers: { min: 0, max: 1 } }, { maxWorkers: 1 });
    const manifest: Partial<Manifest> = { idleTimeoutS: 60, workers: { min: 0, max: 1 } };
    const second = await storeBundle(test.store, { name: 'second', operations, manifest });
    await publishSnapshot(test.broker, test.store, snapshotOf(test.bundle.state(['r1']), second.state(['r1'])));
    await until('it is ready', () => test.reports.at(-1)?.revisions[1]?.state === 'ready');
    assert.deepEqual([isolate.alive().length, isolate.alive()[0]?.spec.bundle], [1, 'second']);
    assert.equal((await test.call()).status, 200);
    assert.equal((await call(test.rpc, new RpcTarget(second.queue, 1), 0)).status, 200);
    assert.equal(isolate.alive().length, 1);
  });

  it('leaves no worker behind when it closes while one starts for a call', async () => {
    await open({ workers: { min: 0, max: 2 } });
    await isAtZero();
    const gate = Promise.withResolvers<void>();
    isolate.startGate = gate.promise;
    const outcome = test.call(0, { timeoutMs: 500 });
    await until('it waits', async () => (await test.report()).revisions[0]?.inFlight === 1);
    const closing = test.runner.close();
    gate.resolve();
    await closing;
    await outcome;
    await until('none is alive', () => isolate.alive().length === 0);
  });
});
