import assert from 'node:assert/strict';
import { carriedHeaders } from '../../../core/wire/carried-headers.ts';

describe('core/wire/carried-headers', () => {
  it('leaves behind what the broker would act on again', () => {
    const headers = {
      CC: ['ev.a'],
      BCC: ['ev.b'],
      'x-death': [{}],
      'x-first-death-queue': 'q',
      'x-delivery-count': 3,
      'fn-path-id': '7',
    };
    assert.deepEqual(carriedHeaders(headers), { 'fn-path-id': '7' });
    assert.deepEqual(carriedHeaders(), {});
  });

  it('leaves behind what is over 32 KiB, and says how many', () => {
    const carried = carriedHeaders({ small: 1, huge: 'x'.repeat(70_000), list: ['é'.repeat(20_000)], last: true });
    assert.deepEqual(carried, { small: 1, last: true, 'fn-headers-dropped': 2 });
  });
});
