import assert from 'node:assert/strict';
import { ThreadStream } from '../../../runner/isolate/thread-stream.ts';
import { until } from '../../helpers/until.ts';

const MiB = 1024 * 1024;

/** Two ends of one stream, in one thread. */
function connectPair(): { near: ThreadStream; far: ThreadStream } {
  const near = new ThreadStream();
  const far = new ThreadStream();
  near.connect({
    send: (bytes) => setImmediate(() => far.receive(bytes)),
    acknowledge: (bytes) => setImmediate(() => far.acknowledged(bytes)),
  });
  far.connect({
    send: (bytes) => setImmediate(() => near.receive(bytes)),
    acknowledge: (bytes) => setImmediate(() => near.acknowledged(bytes)),
  });
  return { near, far };
}

describe('runner/isolate/thread-stream', () => {
  it('keeps the sender waiting while nobody reads, and carries everything when somebody does', async () => {
    const { near, far } = connectPair();
    const pieces = Array.from({ length: 64 }, (_, at) => Buffer.alloc(64 * 1024, at));
    let received = Buffer.alloc(0);
    far.on('data', (chunk: Buffer) => (received = Buffer.concat([received, chunk])));
    far.pause();
    for (const piece of pieces) near.write(piece);
    await until('some has come', () => far.readableLength > 0);
    for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
    assert.ok(far.readableLength < 2 * MiB, `${far.readableLength} bytes came`);
    assert.equal(received.length, 0);
    far.resume();
    await until('all has come', () => received.length === 4 * MiB);
    assert.deepEqual(received, Buffer.concat(pieces));
  });
});
