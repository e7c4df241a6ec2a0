import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Child } from '../../../runner/isolate/child.ts';
import { findWalls, launch, type Walls } from '../../../runner/isolate/launch.ts';
import { MemoryWatch } from '../../../runner/isolate/memory-watch.ts';
import { createProcessIsolate } from '../../../runner/isolate/process.ts';
import { ProcessWorker } from '../../../runner/isolate/process-worker.ts';
import { WarmPool } from '../../../runner/isolate/warm-pool.ts';
import { silentLog, specOf, WorkerHarness } from '../../contract/isolate-harness.ts';
import { until } from '../../helpers/until.ts';

describe('runner/isolate/warm-pool', () => {
  const folder = join(import.meta.dirname, '../../../dist/inside');
  let walls: Walls;
  let pool: WarmPool;
  let launched: Child[];
  let lent: Child[];
  let isUpInTime: boolean;

  before(async () => {
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    walls = await findWalls();
  });

  function open(size: number): void {
    launched = [];
    lent = [];
    isUpInTime = true;
    pool = new WarmPool({
      size,
      memoryMb: 128,
      log: silentLog,
      launch(memoryMb, upMs) {
        const child = new Child(launch(walls, folder, memoryMb, 0), memoryMb, isUpInTime ? upMs : 1, walls);
        launched.push(child);
        return child;
      },
    });
  }

  const take = (memoryMb = 128): Promise<Child> =>
    pool.lend(memoryMb, 10_000, (child) => {
      lent.push(child);
      return Promise.resolve(child);
    });
  const filled = (size: number): Promise<void> => until('the pool is filled', () => pool.ready === size);

  afterEach(async () => {
    for (const child of lent) child.end('killed', 'the test is over');
    await Promise.all([pool.close(), ...launched.map((child) => child.exited)]);
  });

  it('starts nothing before the first worker, then keeps as many ready as it shall', async () => {
    open(2);
    assert.equal(launched.length, 0);
    await take();
    await filled(2);
    assert.equal(launched.length, 3);
  });

  it('gives what is ready, and fills up again', async () => {
    open(1);
    await take();
    await filled(1);
    const [, ready] = launched;
    assert.equal(await take(), ready);
    await filled(1);
    assert.equal(launched.length, 3);
  });

  it('starts a process of its own for another size of memory', async () => {
    open(1);
    await take();
    await filled(1);
    assert.equal((await take(64)).memoryMb, 64);
    assert.equal(pool.ready, 1);
  });

  it('keeps none when it shall keep none', async () => {
    open(0);
    const children = await Promise.all([take(), take(), take(), take(), take()]);
    assert.equal(new Set(children).size, 5);
    assert.deepEqual([launched.length, pool.ready], [5, 0]);
  });

  it('does not fill up while a worker is starting', async () => {
    open(1);
    const started = Promise.withResolvers<undefined>();
    const starting = pool.lend(128, 10_000, (child) => {
      lent.push(child);
      return started.promise;
    });
    await until('it has its process', () => lent.length === 1);
    await take();
    assert.equal(launched.length, 2);
    started.resolve(undefined);
    await starting;
    await filled(1);
  });

  it('replaces a process that is killed while it waits', async () => {
    open(1);
    await take();
    await filled(1);
    const [, waiting] = launched;
    process.kill(waiting?.pid ?? 0, 'SIGKILL');
    await waiting?.exited;
    assert.equal(pool.ready, 0);
    await filled(1);
    assert.notEqual(await take(), waiting);
  });

  it('hands on why a process did not come up, and starts the next one for whoever comes next', async () => {
    open(0);
    isUpInTime = false;
    await assert.rejects(take(), /took longer than 1 ms to start/);
    isUpInTime = true;
    await take();
  });

  it('ends the processes nobody took on close, and whoever waits for one hears of it', async () => {
    open(2);
    await take();
    await filled(2);
    const [, ...waiting] = launched;
    const refused = assert.rejects(take(32), { code: 'SHUTTING_DOWN' });
    await pool.close();
    await refused;
    const exits = await Promise.all(waiting.map((child) => child.exited));
    assert.ok(exits.every(({ reason }) => reason === 'killed'));
    assert.equal(lent[0]?.reason, undefined);
    await assert.rejects(take(64), { code: 'SHUTTING_DOWN' });
  });

  it('lends to the process isolate, whose workers run in it as in any other', async () => {
    open(0);
    const isolate = createProcessIsolate({ log: silentLog, allowWeakIsolation: false, warmWorkers: 1 });
    const source = 'exports.run = () => ({ body: 1 })';
    for (let round = 0; round < 2; round++) {
      const harness = new WorkerHarness();
      harness.worker = await isolate.start(specOf(source, { memoryMb: 128 }), harness.events);
      assert.deepEqual((await harness.call()).json(), { body: 1 });
      await harness.worker.close();
    }
    await isolate.close?.();
  });

  it('has what waits rehearse, and its bundle begins as if nothing had run', async () => {
    open(2);
    await take();
    await filled(2);
    const source = `
      let ran = 0;
      exports.run = (event, { callId, state }) => {
        const found = { ran: ran++, state: { ...state }, random: crypto.randomUUID(), globals: Object.keys(globalThis) };
        state.seen = callId;
        return found;
      };`;
    const found: { ran: number; state: object; random: string; globals: string[] }[] = [];
    const watch = new MemoryWatch();
    for (let round = 0; round < 2; round++) {
      const harness = new WorkerHarness();
      const spec = specOf(source, { memoryMb: 128 });
      const child = await take();
      const worker = new ProcessWorker({ child, spec, events: harness.events, watch, log: silentLog });
      harness.worker = worker;
      await worker.started;
      found.push((await harness.call()).json() as (typeof found)[number]);
      assert.deepEqual(harness.logs, []);
      await worker.close();
    }
    const [first, second] = found;
    for (const { ran, state, globals } of found)
      assert.deepEqual({ ran, state, globals }, { ran: 0, state: {}, globals: [] });
    assert.notEqual(first?.random, second?.random);
  });
});
