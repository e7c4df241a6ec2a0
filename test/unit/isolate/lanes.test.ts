import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Lanes, type Place } from '../../../runner/isolate/guest/lanes.ts';

/** Lanes that are asked for things by name, and what has begun and not left, in that order. */
function open(perLane: number, inAll: number, bytes = Infinity) {
  const lanes = new Lanes({ perLane, inAll, bytes });
  const begun: string[] = [];
  const places = new Map<string, Place>();
  const enter = (name: string, size = 1): void => {
    // `a1` is the first of lane `a`.
    places.set(
      name,
      lanes.enter(name.slice(0, 1), size, () => void begun.push(name)),
    );
  };
  const leave = (name: string): boolean => {
    const place = places.get(name);
    assert.ok(place !== undefined);
    return lanes.leave(place);
  };
  return { begun, enter, leave };
}

describe('runner/isolate/guest/lanes', () => {
  it('begin no more of one lane than it has room for, and the next when one leaves', () => {
    const { begun, enter, leave } = open(2, 10);
    for (const name of ['a1', 'a2', 'a3', 'a4', 'b1']) enter(name);
    assert.deepEqual(begun, ['a1', 'a2', 'b1']);
    assert.equal(leave('a2'), true);
    assert.deepEqual(begun, ['a1', 'a2', 'b1', 'a3']);
  });

  it('let the first of a lane begin when all room is taken: it may be what the others wait for', () => {
    const { begun, enter } = open(2, 3);
    for (const name of ['a1', 'a2', 'b1', 'b2', 'c1', 'c2']) enter(name);
    assert.deepEqual(begun, ['a1', 'a2', 'b1', 'c1']);
  });

  it('take turns', () => {
    const { begun, enter, leave } = open(3, 3);
    for (const name of ['a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'b2', 'b3']) enter(name);
    assert.deepEqual(begun, ['a1', 'a2', 'a3', 'b1']);
    for (const name of ['a1', 'a2', 'a3', 'b1']) leave(name);
    assert.deepEqual(begun.slice(4), ['a4', 'b2', 'a5']);
  });

  it('forget what leaves its line, and say that it never began', () => {
    const { begun, enter, leave } = open(1, 1);
    for (const name of ['a1', 'a2', 'a3']) enter(name);
    assert.equal(leave('a2'), false);
    leave('a1');
    assert.deepEqual(begun, ['a1', 'a3']);
  });

  it('begin what is too large for what is left when there is room, and what is larger than all alone', () => {
    const { begun, enter, leave } = open(5, 5, 10);
    enter('a1', 6);
    enter('b1', 6);
    enter('c1', 30);
    assert.deepEqual(begun, ['a1']);
    leave('a1');
    assert.deepEqual(begun, ['a1', 'b1']);
    leave('b1');
    assert.deepEqual(begun, ['a1', 'b1', 'c1']);
  });

  it('begin everything once, in the order of each lane, within their room, whatever enters and leaves', () => {
    const steps = fc.array(fc.record({ lane: fc.constantFrom('a', 'b', 'c', 'd'), leaves: fc.nat(3) }), {
      maxLength: 80,
    });
    fc.assert(
      fc.property(steps, (all) => {
        const { begun, enter, leave } = open(2, 4);
        const left = new Set<string>();
        const asked: string[] = [];
        const underWay = (): string[] => begun.filter((name) => !left.has(name));
        const leaveOne = (): void => {
          const [name] = underWay();
          if (name === undefined) return;
          left.add(name);
          leave(name);
        };
        for (const [index, { lane, leaves }] of all.entries()) {
          asked.push(`${lane}${index}`);
          enter(`${lane}${index}`);
          for (let count = 0; count < leaves; count++) leaveOne();
          for (const one of 'abcd') {
            const ofLane = underWay().filter((name) => name.startsWith(one)).length;
            assert.ok(ofLane <= 2);
            const waits = asked.some((name) => name.startsWith(one) && !begun.includes(name));
            assert.ok(!waits || ofLane > 0, `lane ${one} waits for others`);
          }
          assert.ok(underWay().length <= 4 + 3);
        }
        while (underWay().length > 0) leaveOne();
        assert.deepEqual(begun.toSorted(), asked.toSorted());
        for (const one of 'abcd') {
          const ofLane = (names: readonly string[]): string[] => names.filter((name) => name.startsWith(one));
          assert.deepEqual(ofLane(begun), ofLane(asked));
        }
      }),
    );
  });
});
