import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { betweenStamps, shiftStamp, StampClock } from '../../../core/stamp-clock.ts';

const stamp = fc.integer({ min: 1, max: 0xffff_ffff });

describe('core/stamp-clock', () => {
  it('says in one process what it says in another at the same time', () => {
    const file = join(import.meta.dirname, '../../../core/stamp-clock.ts');
    const source = `import { StampClock } from ${JSON.stringify(file)}; console.log(new StampClock().stampOf(performance.now()))`;
    const clock = new StampClock();
    const before = clock.stampOf(performance.now());
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
    const after = clock.stampOf(performance.now());
    const there = Number(stdout);
    assert.ok(Number.isInteger(there) && there > 0, stderr);
    // Two processes find their origins to within less than this.
    const toleranceUs = 2_000;
    assert.ok(betweenStamps(before, there) > -toleranceUs, `${before} → ${there}`);
    assert.ok(betweenStamps(there, after) > -toleranceUs, `${there} → ${after}`);
  });

  it('counts microseconds, and takes an offset off', () => {
    const clock = new StampClock();
    const now = performance.now();
    const at = clock.stampOf(now);
    assert.equal(betweenStamps(at, clock.stampOf(now + 1.5)), 1_500);
    assert.equal(betweenStamps(at, clock.stampOf(now, 2)), -2_000);
  });

  it('follows a system clock that is set', () => {
    const clock = new StampClock();
    const before = clock.stampOf(performance.now());
    const { now } = Date;
    Date.now = () => now() + 60_000;
    try {
      for (let look = 0; look < 5; look++) clock.stampOf(performance.now()); // one may be put aside
      const gone = betweenStamps(before, clock.stampOf(performance.now()));
      assert.ok(gone > 59_900_000 && gone < 120_000_000, `${gone}`);
    } finally {
      Date.now = now;
    }
  });

  it('takes being put aside between two looks at the clock for no such thing', () => {
    const clock = new StampClock();
    const at = performance.now();
    const before = clock.stampOf(at);
    const { now } = Date;
    Date.now = () => {
      const time = now();
      while (now() < time + 20); // another process runs
      return time;
    };
    try {
      assert.equal(clock.stampOf(at), before);
    } finally {
      Date.now = now;
    }
  });

  it('counts over the end of its range, and is never 0', () => {
    fc.assert(
      fc.property(stamp, fc.integer({ min: -0x7fff_ffff, max: 0x7fff_ffff }), (from, by) => {
        const to = shiftStamp(from, by);
        assert.ok(to > 0 && to <= 0xffff_ffff);
        assert.ok(Math.abs(betweenStamps(from, to) - by) <= 1);
      }),
    );
    assert.equal(shiftStamp(0xffff_ffff, 1), 1);
  });
});
