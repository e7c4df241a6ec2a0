import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { RETRY_RUNGS_MS } from '../../../core/wire/topology.ts';
import { pickRung } from '../../../runner/triggers/event-fate.ts';

describe('runner/triggers/event-fate', () => {
  it('waits a rung of the ladder: 1 s before the second attempt, up to twice as long before each next, never above the cap', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1_000, max: 3_600_000 }), (attempt, capMs) => {
        const rungMs = pickRung(attempt, capMs);
        assert.ok(RETRY_RUNGS_MS.some((rung) => rung === rungMs));
        assert.ok(rungMs <= capMs);
        assert.ok(rungMs <= 1_000 * 2 ** Math.max(0, attempt - 2));
      }),
    );
  });

  it('spreads later attempts over all rungs they may take', () => {
    const seen = new Set(Array.from({ length: 500 }, () => pickRung(5, 3_600_000)));
    assert.deepEqual(
      [...seen].toSorted((a, b) => a - b),
      [1_000, 2_000, 4_000, 8_000],
    );
  });
});
