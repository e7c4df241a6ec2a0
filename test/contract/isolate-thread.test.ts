import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { createThreadIsolate } from '../../runner/isolate/thread.ts';
import { describeJsIsolate } from './isolate-contract.ts';
import { silentLog, WorkerStarter } from './isolate-harness.ts';

function openThreadIsolate(): IsolateKind {
  execFileSync(process.execPath, ['tools/build-inside.mjs']);
  return createThreadIsolate({ log: silentLog, allowWeakIsolation: false });
}

describeJsIsolate('thread', openThreadIsolate);

describe('runner/isolate/thread', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = openThreadIsolate();
  });
  afterEach(() => workers.endAll());
  after(async () => await kind.close?.());

  it('starts several at once in one process, and again when that has died', async () => {
    for (let round = 0; round < 3; round++) {
      const started = await Promise.all([1, 2, 3, 4].map(() => workers.start('exports.run = () => 1')));
      const [pid, ...others] = new Set(started.map(({ worker }) => worker.pid));
      assert.deepEqual(others, []);
      process.kill(pid ?? 0, 'SIGKILL');
      await Promise.all(started.map(({ exited }) => exited));
    }
  });
});
