import assert from 'node:assert/strict';
import { delay } from '../../../core/lifecycle.ts';
import { betweenStamps, StampClock } from '../../../core/stamp-clock.ts';
import { encodeCalls, encodeReplies, Envelope } from '../../../core/wire/envelope.ts';
import { HeldCall } from '../../../runner/call.ts';
import { stampAnswer } from '../../../runner/call-timing.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubAnswer } from './stub-isolate.ts';
import { openTestRunner, type TestRunner } from './test-runner.ts';

const stamps = new StampClock();
const id = Buffer.alloc(16, 7);
const ok: StubAnswer = { body: '"ok"' };

/** A call that came here so long ago. */
function heldFor(ms: number): HeldCall {
  const at = performance.now() - ms;
  const call = { id, deadline: 0, operation: 0, flags: 0, attempt: 1, meta: '', body: undefined };
  const address = { tag: 1, queue: 'q', calls: new Map(), deliver: () => Promise.resolve('accepted' as const) };
  return new HeldCall(
    {
      envelope: new Envelope(encodeCalls([call])),
      address,
      delivery: undefined,
      tally: { open: 1, deliveries: 0 },
      arrival: { ms: at, us: stamps.stampOf(at) },
      open: 1,
    },
    0,
  );
}

function answerOf(times: { arrivedUs: number; waitUs: number; funcUs: number }): Envelope {
  return new Envelope(encodeReplies([{ id, status: 200, flags: 0, meta: '', body: undefined, ...times }]));
}

describe('runner/call-timing', () => {
  it('takes the arrival back to the runner’s own, by cluster time, and makes the wait longer by as much', () => {
    const call = heldFor(100);
    const there = stamps.stampOf(call.batch.arrival.ms + 60);
    const answers = answerOf({ arrivedUs: there, waitUs: 5_000, funcUs: 10_000 });
    stampAnswer(call, answers, 0, 3);
    assert.equal(answers.waitUs(0), 65_000);
    assert.equal(betweenStamps(call.batch.arrival.us, answers.arrivedUs(0)), -3_000);
    assert.equal(answers.funcUs(0), 10_000);
    assert.equal(answers.coldUs(0), 0);
  });

  it('believes no worker that says a call came before, or waited longer than it was here', () => {
    for (const [afterMs, waitUs, atLeastUs, atMostUs] of [
      [-1_000, 5_000, 0, 0],
      [1_000, 0xffff_ffff, 100_000, 5_000_000],
    ] as const) {
      const call = heldFor(100);
      const arrivedUs = stamps.stampOf(call.batch.arrival.ms + afterMs);
      const answers = answerOf({ arrivedUs, waitUs, funcUs: 0 });
      stampAnswer(call, answers, 0, 0);
      assert.ok(answers.waitUs(0) >= atLeastUs && answers.waitUs(0) <= atMostUs, `${answers.waitUs(0)}`);
    }
  });

  it('counts all but the func as the wait when the worker does not say when it had the call', () => {
    const answers = answerOf({ arrivedUs: 0, waitUs: 0, funcUs: 30_000 });
    stampAnswer(heldFor(100), answers, 0, 0);
    assert.ok(answers.waitUs(0) >= 70_000 && answers.waitUs(0) < 5_000_000, `${answers.waitUs(0)}`);
  });
});

describe('a runner’s answers', () => {
  let test: TestRunner;
  afterEach(() => test.close());

  it('say how much of the wait was the start of a worker, and 0 for one that was there', async () => {
    const isolate = createStubIsolate({ first: () => ok });
    const manifest = { workers: { min: 0, max: 1 }, idleTimeoutS: 0.1 };
    test = await openTestRunner({ operations: [{ operationId: 'first' }], isolate, manifest });
    const warm = await test.call();
    assert.equal(warm.times?.coldUs, 0);
    await until('no worker is left', () => isolate.alive().length === 0);
    isolate.startGate = delay(60);
    const sent = stamps.stampOf(performance.now());
    const { times } = await test.call();
    const back = stamps.stampOf(performance.now());
    assert.ok(times !== undefined);
    const { arrivedUs, waitUs, coldUs, funcUs } = times;
    assert.ok(coldUs > 30_000 && coldUs <= waitUs, `${coldUs} of ${waitUs}`);
    assert.ok(betweenStamps(sent, arrivedUs) >= 0, 'it came before it was sent');
    assert.ok(betweenStamps(arrivedUs, back) + 10 >= waitUs + funcUs, 'its parts are longer than it took');
    assert.equal(await metric('slot_wait_seconds_count'), 2);
    assert.equal(await metric('cold_load_seconds_count'), 1);
  });

  it('say of a call that died with its worker how long it ran', async () => {
    const isolate = createStubIsolate({
      first({ worker }) {
        setTimeout(() => worker.die(), 40);
        return undefined;
      },
    });
    test = await openTestRunner({ operations: [{ operationId: 'first' }], isolate });
    const { code, times } = await test.call(0, { mayRerun: false });
    assert.equal(code, 'FUNC_CRASHED');
    assert.ok((times?.funcUs ?? 0) > 30_000, `${times?.funcUs}`);
    assert.notEqual(times?.arrivedUs, 0);
  });

  async function metric(name: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${test.runner.adminPort}/metrics`);
    return Number(
      new RegExp(`^funcatron_runner_${name}\\{bundle="shop"\\} (\\S+)$`, 'm').exec(await response.text())?.[1],
    );
  }
});
