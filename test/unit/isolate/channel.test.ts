import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import fc from 'fast-check';
import { Channel, FRAME_HEADER_BYTES, FrameKind } from '../../../runner/isolate/channel.ts';
import { until } from '../../helpers/until.ts';

interface Frame {
  readonly kind: number;
  readonly payload: Buffer;
}

function frame(kind: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32BE(payload.length);
  header[4] = kind;
  return Buffer.concat([header, payload]);
}

/** A channel on a socket that is fed by hand. */
function createFed(maxFrameBytes: number): { socket: Socket; frames: Frame[]; ends: (string | undefined)[] } {
  const socket = new Socket();
  const frames: Frame[] = [];
  const ends: (string | undefined)[] = [];
  const channel = new Channel(socket, maxFrameBytes, {
    onFrame: (kind, payload) => frames.push({ kind, payload: Buffer.from(payload) }),
    onEnd: (problem) => ends.push(problem),
  });
  assert.equal(channel.backlogBytes, 0);
  return { socket, frames, ends };
}

async function connectPair(): Promise<{ near: Socket; far: Socket; close: () => void }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [far] = (await once(server, 'connection')) as [Socket];
  return {
    near,
    far,
    close: () => {
      near.destroy();
      far.destroy();
      server.close();
    },
  };
}

describe('runner/isolate/channel', () => {
  it('delivers every frame once and in order, however the bytes are cut', () => {
    const frames = fc.array(fc.tuple(fc.integer({ min: 1, max: 19 }), fc.uint8Array({ maxLength: 300 })), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 97 }), { minLength: 1 }), (sent, cuts) => {
        const { socket, frames: received, ends } = createFed(1000);
        const stream = Buffer.concat(sent.map(([kind, payload]) => frame(kind, Buffer.from(payload))));
        for (let at = 0, cut = 0; at < stream.length; cut++) {
          const end = at + (cuts[cut % cuts.length] ?? 1);
          socket.emit('data', stream.subarray(at, end));
          at = end;
        }
        assert.deepEqual(
          received.map(({ kind, payload }) => [kind, payload.toString('hex')]),
          sent.map(([kind, payload]) => [kind, Buffer.from(payload).toString('hex')]),
        );
        assert.deepEqual(ends, []);
      }),
    );
  });

  it('ends, once and with a reason, at a frame that is too long, and delivers nothing after it', () => {
    const { socket, frames, ends } = createFed(10);
    socket.emit(
      'data',
      Buffer.concat([frame(1, Buffer.alloc(10)), frame(2, Buffer.alloc(11)), frame(3, Buffer.alloc(1))]),
    );
    socket.emit('data', frame(4, Buffer.alloc(1)));
    assert.deepEqual(
      frames.map(({ kind }) => kind),
      [1],
    );
    assert.deepEqual(ends, ['frame of 11 bytes is longer than 10']);
  });

  it('ends when the other side does', async () => {
    const { near, far, close } = await connectPair();
    let ends = 0;
    const channel = new Channel(near, 10, { onFrame: () => undefined, onEnd: () => ends++ });
    far.end();
    await until('the channel ended', () => ends > 0);
    channel.send(FrameKind.ping);
    assert.equal(ends, 1);
    close();
  });

  it('joins the frames of a turn, control frames first', async () => {
    const { near, far, close } = await connectPair();
    const kinds: number[] = [];
    const receiver = new Channel(far, 1000, { onFrame: (kind) => kinds.push(kind), onEnd: () => undefined });
    const channel = new Channel(near, 1000, { onFrame: () => undefined, onEnd: () => undefined });
    channel.send(FrameKind.calls, Buffer.from('a'), Buffer.from('b'));
    channel.send(FrameKind.log);
    channel.send(FrameKind.cancel, Buffer.alloc(16));
    assert.equal(channel.backlogBytes, 5 + 2 + 5 + 5 + 16);
    await until('all arrived', () => kinds.length === 3);
    assert.deepEqual(kinds, [FrameKind.cancel, FrameKind.calls, FrameKind.log]);
    assert.equal(channel.backlogBytes, 0);
    receiver.destroy();
    close();
  });

  it('lets control frames overtake data that a slow reader holds up, and knows how much waits', async () => {
    const { near, far, close } = await connectPair();
    const channel = new Channel(near, 1000, { onFrame: () => undefined, onEnd: () => undefined });
    const block = Buffer.alloc(1024 * 1024, 1);
    // More than the buffers of both ends take.
    for (let count = 0; count < 16; count++) channel.send(FrameKind.calls, block);
    await new Promise(setImmediate);
    assert.ok(near.writableNeedDrain);
    channel.send(FrameKind.replies, block);
    channel.send(FrameKind.ping);
    assert.ok(channel.backlogBytes > block.length);
    const kinds: number[] = [];
    const receiver = new Channel(far, 2 * block.length, {
      onFrame: (kind) => kinds.push(kind),
      onEnd: () => undefined,
    });
    await until('all arrived', () => kinds.length === 18);
    assert.deepEqual(kinds.slice(16), [FrameKind.ping, FrameKind.replies]);
    assert.equal(channel.backlogBytes, 0);
    receiver.destroy();
    close();
  });

  it('takes in a bounded number of frames a turn, so that a flood on one channel leaves others their turns', async () => {
    const flooded = createFed(10);
    const other = createFed(10);
    const small = Buffer.alloc(1);
    let largestTurn = 0;
    let before = 0;
    let isWatching = true;
    const watch = (): void => {
      largestTurn = Math.max(largestTurn, flooded.frames.length - before);
      before = flooded.frames.length;
      if (isWatching) setImmediate(watch);
    };
    setImmediate(watch);
    flooded.socket.emit('data', Buffer.concat(Array.from({ length: 1_000 }, (_, at) => frame(at % 100, small))));
    assert.ok(flooded.socket.isPaused());
    assert.ok(flooded.frames.length < 100, `${flooded.frames.length} at once`);
    other.socket.emit('data', frame(1, small));
    assert.equal(other.frames.length, 1);
    await until('all arrived', () => flooded.frames.length === 1_000);
    isWatching = false;
    assert.ok(largestTurn < 100, `${largestTurn} in one turn`);
    assert.deepEqual(
      flooded.frames.map(({ kind }) => kind),
      Array.from({ length: 1_000 }, (_, at) => at % 100),
    );
    await until('it reads on', () => !flooded.socket.isPaused());
  });

  it('keeps the sender waiting meanwhile', async () => {
    const { near, far, close } = await connectPair();
    let most = 0;
    let frames = 0;
    const receiver = new Channel(far, 1000, {
      onFrame: () => {
        frames++;
        most = Math.max(most, far.readableLength);
      },
      onEnd: () => undefined,
    });
    const all = Buffer.concat(Array.from({ length: 50_000 }, () => frame(1, Buffer.alloc(100))));
    near.write(all);
    await until('all arrived', () => frames === 50_000);
    assert.ok(most <= 256 * 1024, `${most} bytes read ahead`);
    receiver.destroy();
    close();
  });

  it('delivers what it has read when the other side is gone in the middle of a turn', () => {
    const { socket, frames, ends } = createFed(10);
    socket.emit('data', Buffer.concat(Array.from({ length: 100 }, () => frame(1, Buffer.alloc(1)))));
    assert.ok(frames.length < 100);
    socket.emit('close');
    assert.equal(frames.length, 100);
    assert.deepEqual(ends, [undefined]);
  });

  it('brings long pieces of bodies byte for byte, though their memory is given back when they have left', async () => {
    const { near, far, close } = await connectPair();
    const received: Buffer[] = [];
    const receiver = new Channel(far, 200_000, {
      onFrame: (_kind, payload) => received.push(payload),
      onEnd: () => undefined,
    });
    const channel = new Channel(near, 10, { onFrame: () => undefined, onEnd: () => undefined });
    const id = Buffer.from('0123456789abcdef');
    const sent: Buffer[] = [];
    const expected: Buffer[] = [];
    // More than the buffers of both ends take, so that some of it waits.
    for (let count = 0; count < 200; count++) {
      const piece = Buffer.alloc(100 + ((count * 7_919) % 100_000), count);
      expected.push(Buffer.concat([id, piece]));
      sent.push(piece);
      channel.send(FrameKind.streamData, id, piece);
    }
    await until('all arrived', () => received.length === sent.length);
    assert.ok(received.every((payload, at) => expected[at]?.equals(payload)));
    await until('all long ones are gone', () => sent.every(({ length }) => length < 20_000));
    receiver.destroy();
    close();
  });

  it('gives a receiver memory of its own of all that is read into lent memory, but for bodies', () => {
    const payloads = new Map<number, Buffer>();
    const channel = new Channel(
      new Socket(),
      1000,
      { onFrame: (kind, payload) => payloads.set(kind, payload), onEnd: () => undefined },
      'lent',
    );
    const memory = Buffer.concat([
      frame(FrameKind.calls, Buffer.from('calls')),
      frame(FrameKind.streamData, Buffer.from('data')),
      frame(FrameKind.opResult, Buffer.from('result')).subarray(0, 8),
    ]);
    channel.receive(memory);
    memory.fill(0);
    channel.receive(Buffer.from('ult'));
    assert.equal(String(payloads.get(FrameKind.calls)), 'calls');
    assert.deepEqual(payloads.get(FrameKind.streamData), Buffer.alloc(4));
    assert.equal(String(payloads.get(FrameKind.opResult)), 'result');
    channel.destroy();
  });
});
