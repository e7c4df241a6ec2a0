import assert from 'node:assert/strict';
import fc from 'fast-check';
import { backoffMs, TimerWheel, type WheelEntry } from '../../../core/deadline.ts';
import { until } from '../../helpers/until.ts';

function entry(expire: () => void): WheelEntry {
  return { tick: 0, expire };
}

describe('core/deadline', () => {
  it('waits between 1 ms and the cap, whatever the attempt', () => {
    fc.assert(
      fc.property(
        fc.nat(10_000),
        fc.integer({ min: 1, max: 1_000 }),
        fc.integer({ min: 1, max: 60_000 }),
        (attempt, base, cap) => {
          const wait = backoffMs(attempt, base, cap);
          assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= cap);
        },
      ),
    );
  });

  it('expires an entry once, not before its delay', async () => {
    const wheel = new TimerWheel(5);
    const start = performance.now();
    let expired = 0;
    let after = 0;
    wheel.add(
      entry(() => {
        expired++;
        after = performance.now() - start;
      }),
      30,
    );
    await until('expired', () => expired > 0);
    assert.ok(after >= 30, `expired after ${after} ms`);
    await until('the next ticks passed', () => performance.now() - start > 80);
    assert.equal(expired, 1);
    wheel.close();
  });

  it('does not expire what was removed, in whatever order', async () => {
    const wheel = new TimerWheel(2);
    const expired: number[] = [];
    const entries = Array.from({ length: 100 }, (_, index) => entry(() => expired.push(index)));
    for (const [index, each] of entries.entries()) wheel.add(each, 10 + (index % 7) * 3);
    for (const [index, each] of entries.entries()) if (index % 3 !== 0) wheel.remove(each);
    await until('the kept ones expired', () => expired.length === 34);
    assert.ok(expired.every((index) => index % 3 === 0));
    wheel.close();
  });

  it('works again after it was empty for a while', async () => {
    const wheel = new TimerWheel(2);
    let count = 0;
    for (let round = 1; round <= 3; round++) {
      wheel.add(
        entry(() => count++),
        5,
      );
      await until(`round ${round}`, () => count === round);
    }
    wheel.close();
  });
});
