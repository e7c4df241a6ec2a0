import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  CALL_RECORD_BYTES,
  CallFlag,
  encodeCalls,
  encodeReplies,
  Envelope,
  KIND_CALLS,
  KIND_REPLIES,
  ReplyFlag,
  type CallRecord,
} from '../../../core/wire/envelope.ts';

const id = (last: number): Buffer =>
  Buffer.from(`0193a0b1c2d37e4f8a9b0c1d${last.toString(16).padStart(8, '0')}`, 'hex');

const call: CallRecord = {
  id: id(1),
  deadline: 1_763_683_200_000,
  operation: 3,
  flags: CallFlag.mayRerun | CallFlag.text,
  attempt: 1,
  meta: '{"method":"GET"}',
  body: Buffer.from('hé'),
};

const anyCall = fc.record({
  id: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
  deadline: fc.double({ min: 0, max: 1e15, noNaN: true }),
  operation: fc.integer({ min: 0, max: 0xffff }),
  flags: fc.integer({ min: 0, max: 255 }),
  attempt: fc.integer({ min: 0, max: 255 }),
  meta: fc.string({ unit: 'grapheme' }),
  body: fc.option(
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    { nil: undefined },
  ),
});

describe('core/wire/envelope', () => {
  it('writes a call as these bytes', () => {
    assert.equal(
      encodeCalls([call]).toString('hex'),
      '01010001' +
        '0193a0b1c2d37e4f8a9b0c1d00000001' +
        '4279aa3b5ec00000' +
        '0003' +
        '05' +
        '01' +
        '00000010' +
        '00000003' +
        '7b226d6574686f64223a22474554227d' +
        '68c3a9',
    );
  });

  it('writes a reply as these bytes', () => {
    const bytes = encodeReplies([
      {
        id: id(2),
        status: 200,
        flags: ReplyFlag.json,
        waitUs: 7,
        funcUs: 300,
        arrivedUs: 0x01020304,
        coldUs: 5,
        meta: '',
        body: '{"ok":true}',
      },
    ]);
    assert.equal(
      bytes.toString('hex'),
      '02020001' +
        '0193a0b1c2d37e4f8a9b0c1d00000002' +
        '00c8' +
        '02' +
        '00' +
        '00000007' +
        '0000012c' +
        '00000000' +
        '0000000b' +
        '01020304' +
        '00000005' +
        '7b226f6b223a747275657d',
    );
  });

  it('reads every field it wrote, for any calls', () => {
    fc.assert(
      fc.property(fc.array(anyCall, { maxLength: 20 }), (calls) => {
        const envelope = new Envelope(encodeCalls(calls));
        assert.equal(envelope.kind, KIND_CALLS);
        assert.equal(envelope.count, calls.length);
        for (const [index, expected] of calls.entries()) {
          assert.deepEqual(envelope.id(index), expected.id);
          assert.equal(envelope.deadline(index), expected.deadline);
          assert.equal(envelope.operation(index), expected.operation);
          assert.equal(envelope.callFlags(index), expected.flags);
          assert.equal(envelope.attempt(index), expected.attempt);
          assert.equal(envelope.meta(index).toString(), expected.meta.toWellFormed());
          assert.deepEqual(envelope.body(index), expected.body ?? Buffer.alloc(0));
          assert.equal(envelope.idTail(index), expected.id.readUInt32BE(12));
        }
      }),
    );
  });

  it('reads every field of replies', () => {
    const reply = {
      id: id(9),
      status: 504,
      flags: ReplyFlag.failed,
      waitUs: 1,
      funcUs: 2,
      arrivedUs: 3,
      coldUs: 4,
      meta: '{}',
      body: Buffer.from([0, 255]),
    };
    const envelope = new Envelope(encodeReplies([reply]));
    assert.equal(envelope.kind, KIND_REPLIES);
    assert.deepEqual(
      [
        envelope.status(0),
        envelope.replyFlags(0),
        envelope.waitUs(0),
        envelope.funcUs(0),
        envelope.arrivedUs(0),
        envelope.coldUs(0),
        envelope.meta(0).toString(),
        [...envelope.body(0)],
      ],
      [504, ReplyFlag.failed, 1, 2, 3, 4, '{}', [0, 255]],
    );
  });

  it('puts the times of a runner in the place of those of its worker, and touches nothing else', () => {
    const reply = { id: id(9), status: 200, flags: ReplyFlag.json, waitUs: 1, funcUs: 2, meta: '{}', body: 'x' };
    const envelope = new Envelope(encodeReplies([reply, reply]));
    envelope.setTiming(1, 30, 40, 50);
    assert.deepEqual(envelope.buffer, encodeReplies([reply, { ...reply, arrivedUs: 30, waitUs: 40, coldUs: 50 }]));
  });

  it('picks records of replies with their times', () => {
    const replies = [1, 2, 3].map((n) => ({
      id: id(n),
      status: 200,
      flags: 0,
      waitUs: n,
      funcUs: n,
      arrivedUs: n,
      coldUs: n,
      meta: '',
      body: String(n),
    }));
    const picked = new Envelope(encodeReplies(replies)).pick([2, 0]);
    assert.deepEqual(picked, encodeReplies(replies.filter(({ waitUs }) => waitUs !== 2).toReversed()));
  });

  it('picks records in the asked order with metas and bodies untouched, and raises the attempt', () => {
    fc.assert(
      fc.property(fc.array(anyCall, { minLength: 1, maxLength: 10 }), fc.infiniteStream(fc.nat()), (calls, picks) => {
        const indexes = [...picks.take(4)].map((pick) => pick % calls.length);
        const picked = new Envelope(new Envelope(encodeCalls(calls)).pick(indexes, 2));
        const expected = indexes.map((index) => ({ ...calls[index], attempt: 2 }) as CallRecord);
        assert.deepEqual(picked.buffer, encodeCalls(expected));
      }),
    );
  });

  it('refuses anything that is not a whole envelope, and never reads past its end', () => {
    const good = encodeCalls([call, call]);
    for (let length = 0; length < good.length; length++)
      assert.throws(() => new Envelope(good.subarray(0, length)), { code: 'INVALID_REQUEST' });
    assert.throws(() => new Envelope(Buffer.concat([good, Buffer.alloc(1)])), { code: 'INVALID_REQUEST' });
    const otherVersion = Buffer.from(good);
    otherVersion[0] = 2;
    assert.throws(() => new Envelope(otherVersion), { code: 'INVALID_REQUEST', message: /version 2, kind 1/ });
    const oldReplies = encodeReplies([]);
    oldReplies[0] = 1;
    assert.throws(() => new Envelope(oldReplies), { code: 'INVALID_REQUEST', message: /version 1, kind 2/ });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          const envelope = new Envelope(Buffer.from(bytes));
          assert.ok(envelope.count * CALL_RECORD_BYTES <= bytes.length);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'INVALID_REQUEST');
        }
      }),
    );
  });
});
