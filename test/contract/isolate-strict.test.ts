import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { readMemory } from '../../runner/isolate/launch.ts';
import { createStrictIsolate } from '../../runner/isolate/strict.ts';
import { until } from '../helpers/until.ts';
import { describeJsIsolate } from './isolate-contract.ts';
import { JS_ISOLATES, silentLog, WorkerStarter } from './isolate-harness.ts';

describeJsIsolate('strict', JS_ISOLATES.strict, [
  // isolated-vm tells of the first only: docs/security.md, and below.
  'describes every one of several rejections of one entry',
]);

describe('runner/isolate/strict', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = JS_ISOLATES.strict();
  });
  afterEach(() => workers.endAll());
  after(async () => await kind.close?.());

  it('describes the first of the rejections of one entry that nothing handles', async () => {
    const worker = await workers.start(`exports.run = () => {
      Promise.reject(new TypeError('forgotten'));
      Promise.reject(new Error('never told'));
      setTimeout(() => { throw new RangeError('late') }, 1);
      return 1;
    }`);
    assert.equal((await worker.call()).json(), 1);
    await until('both', () => worker.logs.length === 2);
    const messages = worker.logs.map(({ message }) => message).sort();
    assert.match(messages[0] ?? '', /a promise that nothing handles: TypeError: forgotten/);
    assert.match(messages[1] ?? '', /a timer: RangeError: late/);
  });

  it('does not take words of the guest for those of isolated-vm', async () => {
    const worker = await workers.start('exports.run = (event) => { Promise.reject(new Error(event.body)); return 1 }');
    for (const text of ['your plan’s memory limit', 'Script execution timed out.', 'Isolate is disposed']) {
      assert.equal((await worker.call({ body: JSON.stringify(text) })).json(), 1);
      await until('it is logged', () => worker.logs.at(-1)?.message.endsWith(text) === true);
    }
  });

  it('leaves nothing behind for calls that have been answered', async () => {
    const worker = await workers.start('exports.run = () => 1');
    const dataAfter = async (batches: number): Promise<number> => {
      for (let batch = 0; batch < batches; batch++) await worker.callAll(Array.from({ length: 200 }, () => ({})));
      return readMemory(worker.worker.pid)?.dataBytes ?? 0;
    };
    const before = await dataAfter(100);
    // 16 MB when each call leaves 400 bytes.
    const grownMb = ((await dataAfter(200)) - before) / 2 ** 20;
    assert.ok(grownMb < 8, `${grownMb} MB for 40 000 calls`);
  }).timeout(60_000);

  it('outlives bodies that pass through it', async () => {
    const worker = await workers.start('exports.run = (event) => event.body', { memoryMb: 128 });
    const call = { body: JSON.stringify('x'.repeat(4_096)) };
    // The garbage of the two isolates beside one another: 230 MB, and after 25 000 calls an end where they may have less.
    for (let batch = 0; batch < 1_000; batch++) {
      const replies = await worker.callAll(Array.from({ length: 64 }, () => call));
      assert.ok(replies.every(({ status }) => status === 200));
    }
  }).timeout(60_000);

  for (const [where, bomb] of [
    ['in a microtask', 'await null; const all = []; for (;;) all.push({ a: [1, 2, 3] });'],
    ['from one microtask to the next', 'const all = []; for (;;) all.push(await { a: [1, 2, 3] });'],
  ]) {
    it(`ends for memory that runs out ${where}`, async () => {
      const worker = await workers.start(`exports.run = async () => { ${bomb} }`);
      worker.callAll([{}]).catch(() => undefined);
      assert.equal((await worker.exited).reason, 'memory');
    }).timeout(60_000);
  }

  describe('with warm processes', () => {
    let warm: IsolateKind;
    const warmWorkers = new WorkerStarter(() => warm);
    before(() => {
      warm = createStrictIsolate({ log: silentLog, warmWorkers: 1 });
    });
    after(() => warm.close?.());
    after(() => warmWorkers.endAll());

    it('gives a worker a process that waited for one, and ends those that wait still', async () => {
      const first = await warmWorkers.start('exports.run = () => 1', { memoryMb: 128 });
      await until('a process waits', () => waiting(first.worker.pid).length === 1);
      const [pid] = waiting(first.worker.pid);
      const next = await warmWorkers.start('exports.run = () => 2', { memoryMb: 128, state: 'fresh' });
      assert.equal(next.worker.pid, pid);
      assert.deepEqual([(await next.call()).json(), (await first.call()).json()], [2, 1]);
      await until('another one waits', () => waiting(first.worker.pid, next.worker.pid).length === 1);
      await warm.close?.();
      assert.deepEqual(waiting(first.worker.pid, next.worker.pid), []);
    });
  });
});

/** Processes of `strict` that this one has started, but for those of workers. */
function waiting(...workers: readonly number[]): number[] {
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'latin1').trim().split(' ');
  return children.map(Number).filter((pid) => !workers.includes(pid) && isStrict(pid));
}

function isStrict(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('host-strict.cjs');
  } catch {
    return false; // it ended meanwhile
  }
}
