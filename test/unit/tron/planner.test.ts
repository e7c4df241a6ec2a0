import assert from 'node:assert/strict';
import fc from 'fast-check';
import { planAssignments, revisionKey } from '../../../tron/planner.ts';

const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8 }), { maxLength: 6 });

describe('tron/planner', () => {
  it('gives every revision to at least two runners when there are two, and only to runners that live', () => {
    fc.assert(
      fc.property(names, names, (revisions, runners) => {
        const assignments = planAssignments(revisions, runners);
        assert.deepEqual([...assignments.keys()].sort(), [...revisions].sort());
        for (const held of assignments.values()) {
          assert.ok(held.length >= Math.min(2, runners.length));
          assert.equal(new Set(held).size, held.length);
          assert.ok(held.every((id) => runners.includes(id)));
        }
      }),
    );
  });

  it('gives the same assignments for the same input in any order', () => {
    fc.assert(
      fc.property(names, names, (revisions, runners) => {
        const forth = planAssignments(revisions, runners);
        const back = planAssignments(revisions.toReversed(), runners.toReversed());
        assert.deepEqual([...forth], [...back]);
      }),
    );
  });

  it('moves nothing between the runners that stay when one leaves', () => {
    fc.assert(
      fc.property(names, names, (revisions, runners) => {
        const [gone, ...left] = runners;
        const before = planAssignments(revisions, runners);
        for (const [key, held] of planAssignments(revisions, left)) {
          assert.deepEqual(
            held,
            before.get(key)?.filter((id) => id !== gone),
          );
        }
      }),
    );
  });

  it('names a revision by bundle and revision', () => {
    assert.equal(revisionKey('orders', 'aaaaaaaaaaaa'), 'orders@aaaaaaaaaaaa');
  });
});
