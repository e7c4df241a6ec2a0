import assert from 'node:assert/strict';
import { TimerWheel } from '../../../core/deadline.ts';
import { newId, parseId } from '../../../core/id.ts';
import { CallFlag, encodeCalls, Envelope, type FailedReply } from '../../../core/wire/envelope.ts';
import type { WorkerEvents, WorkerSpec } from '../../../runner/isolate/isolate.ts';
import type { Driver, ProgramFailure, ProgramReply } from '../../../runner/runtimes/program-call.ts';
import { ProgramWorker } from '../../../runner/runtimes/program-worker.ts';
import { until } from '../../helpers/until.ts';

describe('runner/runtimes/program-worker', () => {
  const wheel = new TimerWheel();
  after(() => wheel.close());

  /** A worker with one call, whose program ends as `failure` says when it is abandoned, or is made to. */
  function start(failure: ProgramFailure, remainingMs = 60_000) {
    const id = parseId(newId()) ?? Buffer.alloc(16);
    const { promise, resolve } = Promise.withResolvers<ProgramReply | ProgramFailure>();
    const fail = (): void => resolve(failure);
    const driver: Driver = {
      pid: 1,
      backlogBytes: 0,
      run: () => promise,
      abandon: fail,
      ended: new Promise(() => undefined),
      close: () => Promise.resolve(),
      kill: () => undefined,
    };
    const codes: string[] = [];
    const events: WorkerEvents = {
      onReplies(_tag, bytes) {
        const { code } = JSON.parse(new Envelope(bytes).body(0).toString()) as FailedReply;
        codes.push(code);
      },
      onLog: () => undefined,
      onOperation: () => Promise.reject(new Error('none')),
      onExit: () => undefined,
    };
    const worker = new ProgramWorker({ operations: [] } as unknown as WorkerSpec, events, driver, wheel);
    const deadline = Date.now() + remainingMs;
    const record = { id, deadline, operation: 0, flags: CallFlag.mayRerun, attempt: 1, meta: '{}', body: undefined };
    worker.send(1, encodeCalls([record]), 0);
    return { worker, id, codes, fail };
  }

  const crashed: ProgramFailure = { code: 'FUNC_CRASHED', message: 'the program failed: SIGKILL' };

  it('says how a program failed', async () => {
    const { codes, fail } = start(crashed);
    fail();
    await until('it is answered', () => codes.length > 0);
    assert.deepEqual(codes, ['FUNC_CRASHED']);
  });

  it('does not call a program crashed that was ended because nobody waits for it any more', async () => {
    const { worker, id, codes } = start(crashed);
    worker.cancel(id);
    await until('it is answered', () => codes.length > 0);
    assert.deepEqual(codes, ['TIMEOUT']);
  });

  it('answers a call at its deadline, once', async () => {
    const { codes } = start(crashed, 30);
    await until('it is answered', () => codes.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(codes, ['TIMEOUT']);
  });
});
