import assert from 'node:assert/strict';
import { ERRORS, FuncatronError, isErrorCode, toFuncatronError, toProblem } from '../../../core/errors.ts';

describe('core/errors', () => {
  it('gives every code an HTTP error status and a meaning', () => {
    for (const [code, row] of Object.entries(ERRORS)) {
      assert.ok(row.status >= 400 && row.status <= 599, code);
      assert.ok(row.meaning.length > 10, code);
    }
  });

  it('renders RFC 9457 with code and callId, and neither stack nor cause', () => {
    const error = new FuncatronError('INVALID_REQUEST', 'no such field', {
      cause: new Error('secret'),
      data: { problems: [{ message: 'must be integer', pointer: '/query/page' }], retryAfterS: 2 },
    });
    assert.deepEqual(toProblem(error, 'id-1'), {
      type: 'urn:funcatron:error:INVALID_REQUEST',
      title: ERRORS.INVALID_REQUEST.meaning,
      status: 400,
      code: 'INVALID_REQUEST',
      detail: 'no such field',
      callId: 'id-1',
      retryAfterS: 2,
      problems: [{ message: 'must be integer', pointer: '/query/page' }],
    });
  });

  it('turns anything thrown into an error of the table and keeps the cause', () => {
    const cause = new TypeError('x is not a function');
    const error = toFuncatronError(cause);
    assert.equal(error.code, 'INTERNAL');
    assert.equal(error.cause, cause);
    assert.equal(toFuncatronError(error), error);
    assert.equal(toFuncatronError('text').message, 'text');
  });

  it('knows its own codes only', () => {
    assert.ok(isErrorCode('TIMEOUT'));
    for (const value of ['toString', '__proto__', '', 7, undefined]) assert.ok(!isErrorCode(value));
  });
});
