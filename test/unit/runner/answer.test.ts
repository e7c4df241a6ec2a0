import assert from 'node:assert/strict';
import { newId, parseId } from '../../../core/id.ts';
import { encodeReplies, Envelope, ReplyFlag } from '../../../core/wire/envelope.ts';
import { openAnswer, renderAnswer } from '../../../runner/triggers/answer.ts';

const id = parseId(newId()) ?? assert.fail();

function openReply(reply: { flags?: number; meta?: string; body?: string }) {
  const record = { id, status: 200, flags: 0, waitUs: 0, funcUs: 0, meta: '', body: '', ...reply };
  return openAnswer(new Envelope(encodeReplies([record])), 0);
}

describe('runner/triggers/answer', () => {
  it('says INVALID_RESPONSE of a reply that is none, which a worker gone bad or a stranger may send', () => {
    for (const meta of ['null', '{', '{"headers":null}', '{"headers":5}', '{"headers":{"a":null}}']) {
      assert.equal(openReply({ meta }).error?.code, 'INVALID_RESPONSE', meta);
    }
    assert.deepEqual(openReply({ flags: ReplyFlag.failed, body: '{"message":"m","data":null}' }).error?.data, {});
    for (const body of ['null', '', '{', '5', '{"code":"TIMEOUT"}', '{"code":"TIMEOUT","message":"m","data":5}']) {
      assert.equal(openReply({ flags: ReplyFlag.failed, body }).error?.code, 'INVALID_RESPONSE', body);
    }
  });

  it('renders what a func answered, lists of headers too', () => {
    const answer = openReply({ meta: '{"headers":{"set-cookie":["a","b"],"content-type":"text/plain"}}', body: 'x' });
    const { body, properties } = renderAnswer(answer, 'c1', undefined);
    assert.equal(body.toString(), 'x');
    assert.equal(properties.contentType, 'text/plain');
    assert.deepEqual(properties.headers, { 'fn-status': 200, 'fn-header-set-cookie': ['a', 'b'] });
  });
});
