import assert from 'node:assert/strict';
import fc from 'fast-check';
import { StampClock } from '../../../core/stamp-clock.ts';
import { encodeReplies, Envelope } from '../../../core/wire/envelope.ts';
import { CallTiming } from '../../../frontend/server-timing.ts';

const u32 = fc.oneof(fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 0, max: 0xffff_ffff }));

function replyOf(times: { arrivedUs: number; waitUs: number; coldUs: number; funcUs: number }): Envelope {
  return new Envelope(
    encodeReplies([{ id: Buffer.alloc(16), status: 200, flags: 0, meta: '', body: undefined, ...times }]),
  );
}

describe('frontend/server-timing', () => {
  const stamps = new StampClock();
  const context = { stamps, clock: { offsetMs: 0 } };

  it('divides the time since the call left by what the reply says', () => {
    const timing = new CallTiming();
    timing.sentAt = performance.now() - 100;
    const arrivedUs = stamps.stampOf(timing.sentAt + 20);
    timing.read(replyOf({ arrivedUs, waitUs: 30_000, coldUs: 25_000, funcUs: 40_000 }), 0, context);
    assert.deepEqual([timing.part('isolate'), timing.part('cold'), timing.part('func')], [30, 25, 40]);
    assert.ok(Math.abs((timing.part('queue') ?? 0) - 20) < 1, String(timing.part('queue')));
    assert.ok((timing.part('reply') ?? 0) >= 9);
    assert.equal(timing.part('unanswered'), undefined);
  });

  it('adds up to what was measured here, whatever the reply says', () => {
    fc.assert(
      fc.property(
        fc.record({ arrivedUs: u32, waitUs: u32, coldUs: u32, funcUs: u32 }),
        fc.integer({ min: -5_000, max: 5_000 }),
        (times, offsetMs) => {
          const timing = new CallTiming();
          timing.sentAt = performance.now() - 10;
          timing.read(replyOf(times), 0, { stamps, clock: { offsetMs } });
          const [queue = -1, isolate = -1, cold = -1, func = -1, reply = -1] = (
            ['queue', 'isolate', 'cold', 'func', 'reply'] as const
          ).map((part) => timing.part(part));
          for (const ms of [queue, isolate, cold, func]) assert.ok(ms >= 0);
          assert.ok(reply > -1e-6 && cold <= isolate);
          const all = queue + isolate + func + reply;
          assert.ok(all >= 10 && all < 5_000, `${all}`);
        },
      ),
    );
  });

  it('counts what neither the queue nor the func took as the reply’s when the runner does not say when it had the call', () => {
    const timing = new CallTiming();
    timing.sentAt = performance.now() - 50;
    timing.read(replyOf({ arrivedUs: 0, waitUs: 0, coldUs: 0, funcUs: 10_000 }), 0, context);
    assert.equal(timing.part('queue'), 0);
    assert.ok((timing.part('reply') ?? 0) >= 39);
  });

  it('has no other part than the frontend’s for a call that never left', () => {
    assert.match(String(new CallTiming()), /^frontend;dur=[\d.]+$/);
  });
});
