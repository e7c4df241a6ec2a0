import assert from 'node:assert/strict';
import { newId, parseId } from '../../../core/id.ts';
import { CancelledIds } from '../../../runner/cancels.ts';

function id(): Buffer {
  return parseId(newId()) ?? assert.fail();
}

describe('runner/cancels', () => {
  it('remembers ids, and takes no other with the same last bytes for one of them', () => {
    const cancelled = new CancelledIds();
    assert.equal(cancelled.isEmpty, true);
    const known = id();
    const twin = Buffer.from(known);
    twin[0] = (twin[0] ?? 0) ^ 0xff;
    cancelled.add(known);
    assert.equal(cancelled.isEmpty, false);
    assert.equal(cancelled.has(known), true);
    assert.equal(cancelled.has(twin), false);
  });

  it('keeps at least the last 50 000 and no more than 100 000', () => {
    const cancelled = new CancelledIds();
    const ids = Array.from({ length: 100_001 }, id);
    for (const each of ids) cancelled.add(each);
    assert.equal(cancelled.has(ids[0] ?? assert.fail()), false);
    assert.ok(ids.slice(-50_000).every((each) => cancelled.has(each)));
  });
});
