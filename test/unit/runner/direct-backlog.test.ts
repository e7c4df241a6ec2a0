import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { TimerWheel } from '../../../core/deadline.ts';
import { encodeLength } from '../../../core/wire/direct.ts';
import { encodeReplies, Envelope, ReplyFlag } from '../../../core/wire/envelope.ts';
import { Exchange, type Backlog } from '../../../runner/direct/exchange.ts';
import { FrameKind } from '../../../runner/isolate/channel.ts';

const KiB = 1024;

describe('runner/direct/exchange: answers that wait for slow clients', () => {
  let wheel: TimerWheel;
  let backlog: Backlog;
  let stopped: string[];

  beforeEach(() => {
    wheel = new TimerWheel();
    backlog = { maxBytes: 1_000 * KiB, bytes: 0 };
    stopped = [];
  });
  afterEach(() => wheel.close());

  /** An answer with so much of a body that nobody has come for. */
  function waiting(name: string, bytes: number): Exchange {
    const id = randomBytes(16);
    const exchange = new Exchange({
      id,
      method: 'GET',
      wheel,
      backlog,
      worker: {
        stream: (kind) => void (kind === FrameKind.streamReset && stopped.push(name)),
        cancel: () => undefined,
      },
      onEnd: () => undefined,
    });
    const flags = ReplyFlag.direct;
    const record = { id, status: 200, flags, waitUs: 0, funcUs: 0, meta: '', body: encodeLength(undefined) };
    exchange.answer(new Envelope(encodeReplies([record])));
    more(exchange, bytes);
    return exchange;
  }

  function more(exchange: Exchange, bytes: number): void {
    for (let left = bytes; left > 0; left -= 50 * KiB) exchange.onFrame(FrameKind.streamData, Buffer.alloc(50 * KiB));
  }

  it('counts what waits, until it has been let go', () => {
    const exchange = waiting('one', 500 * KiB);
    assert.equal(backlog.bytes, 500 * KiB);
    exchange.onUnclaimed('late');
    assert.equal(backlog.bytes, 0);
  });

  it('ends one of which much waits when there is no room, and none of which little waits', () => {
    const slow = waiting('slow', 950 * KiB);
    waiting('quick', 200 * KiB);
    assert.deepEqual(stopped, []);
    more(slow, 50 * KiB);
    assert.deepEqual(stopped, ['slow']);
    assert.equal(backlog.bytes, 200 * KiB);
  });
});
