import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRunner, type Runner } from '../../../runner/main.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate } from './stub-isolate.ts';
import {
  openTestRunner,
  publishSnapshot,
  silent,
  snapshotOf,
  storeBundle,
  testConfig,
  type TestRunner,
} from './test-runner.ts';

const operations = [{ operationId: 'echo' }];
const funcs = { echo: () => ({ body: '"here"' }) };

describe('runner/agent', () => {
  let test: TestRunner;

  afterEach(() => test.close());

  async function consumers(queue: string): Promise<number | undefined> {
    return (await test.broker.probe(queue))?.consumers;
  }

  it('holds what the snapshot gives it, reports it ready, and drops it when it leaves', async () => {
    const isolate = createStubIsolate(funcs);
    test = await openTestRunner({ operations, isolate });
    const [held] = (await test.report()).revisions;
    assert.deepEqual(held, {
      bundle: 'shop',
      revision: test.bundle.record.revision,
      state: 'ready',
      workers: 1,
      bounds: { min: 1, max: 1 },
      restarts: 0,
      inFlight: 0,
    });
    await publishSnapshot(test.broker, test.store, snapshotOf());
    await until('it is dropped', async () => (await test.report()).revisions.length === 0);
    await until('nobody consumes', async () => (await consumers(test.bundle.queue)) === 0);
    assert.equal(isolate.workers[0]?.exit?.reason, 'closed');
    assert.equal(isolate.workers.length, 1);
  });

  it('does not care whether a snapshot comes twice or late', async () => {
    const isolate = createStubIsolate(funcs);
    test = await openTestRunner({ operations, isolate });
    const newer = snapshotOf(test.bundle.state(['r1']));
    const older = { ...snapshotOf(), epoch: '1.0' } as const;
    for (const snapshot of [newer, older, newer]) await publishSnapshot(test.broker, test.store, snapshot);
    await until('the newer is held', async () => (await test.report()).epoch === newer.epoch);
    assert.equal((await test.call(0)).status, 200);
    assert.equal(isolate.workers.length, 1);
  });

  it('takes the next revision beside the one before it', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate(funcs) });
    const next = await storeBundle(test.store, { operations });
    const both = test.bundle.state(['r1']);
    await publishSnapshot(
      test.broker,
      test.store,
      snapshotOf({ ...both, revisions: [...both.revisions, ...next.state(['r1']).revisions] }),
    );
    await until('both are consumed', async () => (await consumers(next.queue)) === 1);
    await publishSnapshot(test.broker, test.store, snapshotOf(next.state(['r1'])));
    await until('one is dropped', async () => (await consumers(test.bundle.queue)) === 0);
    assert.equal((await test.report()).revisions[0]?.revision, next.record.revision);
  });

  it("reports a revision that does not come up as failed, with the func's own error, and goes on with the others", async () => {
    const isolate = createStubIsolate(funcs);
    test = await openTestRunner({ operations, isolate });
    const broken = await storeBundle(test.store, { name: 'broken', operations });
    isolate.startFailures.push(new Error('init threw: no DB_URL (index.ts:3:9)'));
    await publishSnapshot(test.broker, test.store, snapshotOf(test.bundle.state(['r1']), broken.state(['r1'])));
    await until('it failed', async () => (await test.report()).revisions.some(({ state }) => state === 'failed'));
    const failed = (await test.report()).revisions.find(({ bundle }) => bundle === 'broken');
    assert.deepEqual(failed?.error, { code: 'DEPLOY_FAILED', message: 'init threw: no DB_URL (index.ts:3:9)' });
    assert.equal((await test.call(0)).status, 200);
    await publishSnapshot(test.broker, test.store, snapshotOf(test.bundle.state(['r1'])));
    await until('it is dropped', async () => (await test.report()).revisions.length === 1);
  });

  it('reports a digest nobody has as failed', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate(funcs) });
    const state = test.bundle.state(['r1']);
    const [revision] = state.revisions;
    assert.ok(revision !== undefined);
    const missing = { ...revision, digest: 'f'.repeat(64), revision: 'f'.repeat(12), queue: 'fn.shop.ffffffffffff' };
    await publishSnapshot(test.broker, test.store, snapshotOf({ ...state, revisions: [revision, missing] }));
    await until('it failed', async () =>
      (await test.report()).revisions.some(({ error }) => error?.code === 'NOT_FOUND'),
    );
  });

  it('has no more workers than the runner may have, and says which flag to change', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate(funcs), config: { maxWorkers: 1 } });
    const second = await storeBundle(test.store, { name: 'second', operations });
    await publishSnapshot(test.broker, test.store, snapshotOf(test.bundle.state(['r1']), second.state(['r1'])));
    await until('it failed', async () =>
      (await test.report()).revisions.some(({ error }) => error?.code === 'OVERLOADED'),
    );
  });

  describe('started again while the store is empty', () => {
    async function startAgain(): Promise<void> {
      await test.runner.close();
      for (const key of await test.store.keys('')) await test.store.delete(key);
      const isolate = createStubIsolate(funcs);
      const { store, config } = test;
      again = await openRunner({ config, broker: test.broker.connect(), store, log: silent, id: 'r1', isolate });
    }
    let again: Runner | undefined;

    beforeEach(async () => {
      test = await openTestRunner({ operations, isolate: createStubIsolate(funcs) });
    });
    afterEach(async () => {
      await again?.close();
    });

    it('serves what it has on disk', async () => {
      await startAgain();
      await until('it consumes', async () => (await consumers(test.bundle.queue)) === 1);
      assert.equal((await test.call(0)).status, 200);
    });

    it('does not run what was changed on disk', async () => {
      const folder = join(test.folder, 'runner', 'bundles', test.bundle.record.digest);
      assert.deepEqual(readdirSync(folder).toSorted(), ['bundle.tgz', 'record.json']);
      writeFileSync(join(folder, 'bundle.tgz'), 'something else');
      await startAgain();
      await until('it failed', async () => (await test.report()).revisions.some(({ state }) => state === 'failed'));
      assert.equal(existsSync(folder), false);
    });
  });

  it('is the same runner at its next start from the same data folder, and two at once are two', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate(funcs) });
    const config = testConfig(join(test.folder, 'own'));
    const open = () =>
      openRunner({
        config,
        broker: test.broker.connect(),
        store: test.store,
        log: silent,
        isolate: createStubIsolate({}),
      });
    const first = await open();
    const second = await open();
    assert.notEqual(first.id, second.id);
    await first.close();
    const again = await open();
    assert.equal(again.id, first.id);
    await Promise.all([second.close(), again.close()]);
  });

  it('is not ready without a broker and a snapshot, and says so', async () => {
    test = await openTestRunner({ operations, isolate: createStubIsolate(funcs) });
    const readyz = `http://127.0.0.1:${test.runner.adminPort}/readyz`;
    assert.equal((await fetch(readyz)).status, 200);
    await test.runnerBroker.close();
    const response = await fetch(readyz);
    assert.equal(response.status, 503);
    assert.match(await response.text(), /message broker is not ready/);
  });
});
