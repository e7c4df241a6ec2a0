import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import {
  DirectHeadReader,
  directPath,
  encodeDirectHead,
  encodeLength,
  MAX_DIRECT_HEAD_BYTES,
  readLength,
  readOffer,
} from '../../../core/wire/direct.ts';
import { encodeCalls, encodeReplies, Envelope, ReplyFlag, type ReplyRecord } from '../../../core/wire/envelope.ts';

const ID = randomBytes(16);
const TOKEN = 'T'.repeat(43);
const record: ReplyRecord = { id: ID, status: 200, flags: 0, waitUs: 1, funcUs: 2, meta: '{"a":1}', body: 'body' };

function head(...records: readonly ReplyRecord[]): Buffer {
  return encodeDirectHead(new Envelope(encodeReplies(records)));
}

describe('core/wire/direct', () => {
  it('takes a head out of whatever pieces it comes in, and leaves the rest', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), fc.array(fc.nat({ max: 600 })), (after, cuts) => {
        const whole = Buffer.concat([head(record), after]);
        const places = [...new Set([0, ...cuts, whole.length])].filter((at) => at <= whole.length);
        const reader = new DirectHeadReader();
        const rest: Buffer[] = [];
        let reply: Envelope | undefined;
        places
          .toSorted((a, b) => a - b)
          .forEach((at, index, all) => {
            const piece = whole.subarray(at, all[index + 1] ?? whole.length);
            const found = reply === undefined ? reader.push(piece) : undefined;
            if (found !== undefined) ({ reply } = found);
            if (reply !== undefined) rest.push(found?.rest ?? piece);
          });
        assert.equal(reply?.body(0).toString(), 'body');
        assert.ok(Buffer.concat(rest).equals(Buffer.from(after)));
      }),
    );
  });

  it('throws at a head that is none, and never asks for more than the longest', () => {
    const tooLong = Buffer.alloc(4);
    tooLong.writeUInt32BE(MAX_DIRECT_HEAD_BYTES + 1);
    const calls = encodeCalls([]);
    const ofCalls = Buffer.concat([Buffer.from([0, 0, 0, calls.length]), calls]);
    const accepted = head({ ...record, flags: ReplyFlag.accepted });
    for (const bytes of [tooLong, ofCalls, accepted, head(), head(record, record), Buffer.from('HTTP/1.1 200 OK')]) {
      assert.throws(() => new DirectHeadReader().push(bytes));
    }
  });

  it('reads its own offers, behind a proxy with a prefix too', () => {
    for (const base of ['http://10.0.0.7:4000', 'http://[::1]:4000', 'http://proxy/runners/7']) {
      const offer = { url: base + directPath(ID), token: TOKEN };
      assert.deepEqual(readOffer(Buffer.from(JSON.stringify(offer)), ID), offer);
    }
  });

  it('takes no other JSON for an offer', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.webUrl().map((url) => JSON.stringify({ url, token: TOKEN })),
        ),
        (text) => {
          assert.throws(() => readOffer(Buffer.from(text), ID));
        },
      ),
    );
    for (const path of [
      `${directPath(ID)}?x`,
      `${directPath(ID)}#x`,
      `${directPath(ID)}/`,
      directPath(randomBytes(16)),
    ]) {
      const offer = JSON.stringify({ url: `http://x${path}`, token: TOKEN });
      assert.throws(() => readOffer(Buffer.from(offer), ID), TypeError);
    }
  });

  it('says how long a body is, or that nobody knows', () => {
    for (const bytes of [0, 1, 2 ** 40, undefined]) assert.equal(readLength(encodeLength(bytes)), bytes);
    for (const bytes of [Buffer.alloc(0), Buffer.from('12345678'), Buffer.alloc(8, 255)]) {
      assert.equal(readLength(bytes), undefined);
    }
  });
});
