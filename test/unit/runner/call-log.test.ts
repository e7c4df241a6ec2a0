import assert from 'node:assert/strict';
import type { LogLine } from '../../../core/wire/control.ts';
import { ReplyFlag } from '../../../core/wire/envelope.ts';
import { newId } from '../../../core/id.ts';
import { LineBudget } from '../../../runner/line-budget.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubFunc } from './stub-isolate.ts';
import { openTestRunner, type TestRunner } from './test-runner.ts';

describe('runner/call-log', () => {
  let test: TestRunner;

  async function open(first: StubFunc): Promise<void> {
    test = await openTestRunner({ operations: [{ operationId: 'first' }], isolate: createStubIsolate({ first }) });
  }

  /** The first line of a call: those of the bundle as a whole are not what is looked for here. */
  async function line(): Promise<LogLine> {
    const ofCall = (): LogLine | undefined => test.lines.find(({ callId }) => callId !== undefined);
    await until('a line', () => ofCall() !== undefined);
    return ofCall() ?? assert.fail();
  }

  afterEach(() => test.close());

  it('says what limit a call broke that died of memory, and how to raise it; its caller hears only the reason', async () => {
    await open(({ worker }) => {
      setImmediate(() => worker.die({ reason: 'memory', detail: 'it used 190 MB' }));
      return undefined;
    });
    const id = newId();
    const { body } = await test.call(0, { id, mayRerun: false });
    assert.equal(JSON.parse(body).message, 'the worker died while it ran the func (memory)');
    const { level, bundle, revision, operationId, callId, message } = await line();
    assert.deepEqual([level, bundle, operationId, callId], ['error', 'shop', 'first', id]);
    assert.equal(revision, test.bundle.record.revision);
    assert.equal(
      message,
      'call ended with FUNC_CRASHED: the worker died while it ran the func (memory: it used 190 MB); ' +
        'raise x-funcatron.memoryMb, which is 128, if it needs more',
    );
  });

  it('has a line for a call whose func did not end in time', async () => {
    await open(() => undefined);
    await test.call(0, { timeoutMs: 50 });
    assert.equal((await line()).message, 'call ended with TIMEOUT: the func did not end before its deadline');
  });

  it('has a line for a call whose func ended too late', async () => {
    const end = Promise.withResolvers<{ body: string }>();
    await open(() => end.promise);
    await test.call(0, { timeoutMs: 50 });
    end.resolve({ body: '1' });
    assert.match(
      (await line()).message,
      /^call ended with TIMEOUT: the func (ended after|did not end before) its deadline$/,
    );
  });

  it('has a line for an answer the worker refused, and none of its own for what a func threw', async () => {
    const failed = (code: string): { status: number; flags: number; body: string } => ({
      status: 502,
      flags: ReplyFlag.failed,
      body: JSON.stringify({ code, message: 'func first returned a cycle' }),
    });
    const codes = ['FUNC_ERROR', 'INVALID_RESPONSE'];
    await open(() => failed(codes.shift() ?? ''));
    await test.call(0);
    await test.call(0);
    assert.equal((await line()).message, 'call ended with INVALID_RESPONSE: func first returned a cycle');
    assert.equal(test.lines.length, 1);
  });

  it('says that an error cannot be read instead of believing it', async () => {
    await open(() => ({ status: 502, flags: ReplyFlag.failed, body: '{}' }));
    await test.call(0);
    assert.match((await line()).message, /INVALID_RESPONSE: the worker sent an error that cannot be read/);
  });
});

describe('runner/line-budget', () => {
  it('lets twice the lines of a second through at once, and counts the others', () => {
    const budget = new LineBudget(0.001);
    assert.equal(budget.take(), false);
    const wide = new LineBudget(1_000);
    const taken = Array.from({ length: 100_000 }, () => wide.take()).filter(Boolean).length;
    assert.ok(taken >= 2_000);
    assert.equal(wide.takeDropped(), 100_000 - taken);
    assert.equal(wide.takeDropped(), 0);
  });
});
