import assert from 'node:assert/strict';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { describeJsIsolate } from './isolate-contract.ts';
import { JS_ISOLATES, WorkerStarter } from './isolate-harness.ts';

describeJsIsolate('process', JS_ISOLATES.process);

describe('runner/isolate/process: what a guest hands out', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = JS_ISOLATES.process();
  });
  afterEach(() => workers.endAll());
  after(async () => await kind.close?.());

  for (const field of ['text', 'meta']) {
    it(`is text, or the end of its worker: ${field}`, async () => {
      const worker = await workers.start(`
        const { push } = Array.prototype;
        const evil = { get length() { for (;;); }, valueOf() { for (;;); }, [Symbol.for('nodejs.util.inspect.custom')]() { for (;;); } };
        exports.run = () => {
          Array.prototype.push = function (item) {
            if (item?.${field} !== undefined) item.${field} = evil;
            return Reflect.apply(push, this, arguments);
          };
          return { [Symbol.for('funcatron.reply')]: true, status: 200, body: 'x', headers: { a: 'b' } };
        }`);
      worker.call().catch(() => undefined);
      assert.equal((await worker.exited).reason, 'crashed');
    });
  }
});
