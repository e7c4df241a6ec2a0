import assert from 'node:assert/strict';
import { giveBack, SpentBuffers } from '../../../core/spent-buffers.ts';

const LONG = 64 * 1024;
const isGone = (buffer: Buffer): boolean => buffer.length === 0;

describe('core/spent-buffers', () => {
  const writer = (writableLength: number, destroyed = false) => ({ destroyed, writableLength });

  function three(): { spent: SpentBuffers; buffers: Buffer[] } {
    const spent = new SpentBuffers();
    const buffers = [1, 2, 3].map((value) => Buffer.alloc(LONG, value));
    for (const buffer of buffers) spent.add(buffer);
    return { spent, buffers };
  }

  it('gives all of them back when the writer holds nothing', () => {
    const { spent, buffers } = three();
    spent.free(writer(0));
    assert.deepEqual(buffers.map(isGone), [true, true, true]);
  });

  it('keeps those the writer may still hold a byte of', () => {
    for (const [held, gone] of [
      [1, [true, true, false]],
      [LONG, [true, true, false]],
      [LONG + 1, [true, false, false]],
      [2 * LONG + 1, [false, false, false]],
    ] as const) {
      const { spent, buffers } = three();
      spent.free(writer(held));
      assert.deepEqual(buffers.map(isGone), gone, `${held} bytes held`);
      spent.free(writer(0));
      assert.ok(buffers.every(isGone));
    }
  });

  it('gives nothing back of what a destroyed writer held, and forgets it', () => {
    const { spent, buffers } = three();
    spent.free(writer(0, true));
    spent.free(writer(0));
    assert.deepEqual(buffers.map(isGone), [false, false, false]);
  });

  it('leaves memory alone that others may have a part of', () => {
    const whole = Buffer.alloc(2 * LONG);
    const parts = [whole.subarray(0, LONG), whole.subarray(LONG), whole.subarray(17), whole.subarray(0, 2 * LONG - 1)];
    const short = Buffer.alloc(100);
    const shared = Buffer.from(new SharedArrayBuffer(LONG));
    for (const buffer of [...parts, short, shared, Buffer.from('pooled')]) giveBack(buffer);
    assert.equal(whole.length, 2 * LONG);
    assert.equal(short.length, 100);
    assert.equal(shared.length, LONG);
  });

  it('gives back the memory of a frame behind the id it began with', () => {
    const frame = Buffer.alloc(16 + LONG);
    giveBack(frame.subarray(16));
    assert.ok(isGone(frame));
  });
});
