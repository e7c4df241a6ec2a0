import assert from 'node:assert/strict';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { until } from '../helpers/until.ts';
import { describeJsIsolate } from './isolate-contract.ts';
import { JS_ISOLATES, WorkerStarter } from './isolate-harness.ts';

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
});
