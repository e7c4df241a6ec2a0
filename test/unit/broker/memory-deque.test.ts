import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Deque } from '../../../core/broker/memory-deque.ts';

describe('core/broker/memory-deque', () => {
  it('does what an array does, whatever the order of operations', () => {
    const operation = fc.constantFrom<('push' | 'unshift' | 'shift' | 'clear')[]>(
      'push',
      'push',
      'push',
      'push',
      'push',
      'unshift',
      'shift',
      'shift',
      'clear',
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 400 }), (operations) => {
        const deque = new Deque<number>();
        const array: number[] = [];
        for (const [i, name] of operations.entries()) {
          if (name === 'shift') assert.equal(deque.shift(), array.shift());
          else if (name !== 'clear') assert.equal(deque[name](i), undefined, String(array[name](i)));
          else {
            deque.clear();
            array.splice(0);
          }
          assert.equal(deque.length, array.length);
          assert.equal(deque.peek(), array[0]);
        }
        assert.deepEqual([...deque], array);
      }),
    );
  });

  it('gives everything back in order after a backlog of 100 000, and begins anew', () => {
    const deque = new Deque<number>();
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 100_000; i++) deque.push(i);
      for (let i = 0; i < 100_000; i++) assert.equal(deque.shift(), i);
      assert.equal(deque.shift(), undefined);
      assert.equal(deque.length, 0);
    }
  });
});
