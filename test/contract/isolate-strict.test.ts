import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { createStrictIsolate } from '../../runner/isolate/strict.ts';
import { until } from '../helpers/until.ts';
import { describeJsIsolate } from './isolate-contract.ts';
import { silentLog, WorkerStarter } from './isolate-harness.ts';

function openStrictIsolate(): IsolateKind {
  execFileSync(process.execPath, ['tools/build-inside.mjs']);
  return createStrictIsolate({ log: silentLog });
}

describeJsIsolate('strict', openStrictIsolate, [
  // isolated-vm tells of the first only: docs/security.md, and below.
  'describes every one of several rejections of one entry',
]);

describe('runner/isolate/strict', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = openStrictIsolate();
  });
  afterEach(() => workers.endAll());

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
});
