import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import fc from 'fast-check';
import { STREAM_CREDIT_BYTES, STREAM_STEP_BYTES } from '../../../runner/isolate/bridge.ts';
import { FrameKind } from '../../../runner/isolate/channel.ts';
import { AnswerBody } from '../../../runner/runtimes/answer-body.ts';
import { CallBody } from '../../../runner/runtimes/call-body.ts';
import { BodyWriter } from '../../../runner/runtimes/http-request.ts';

describe('runner/runtimes/call-body', () => {
  /** Reads so many pieces at a time, and notes what it hears. */
  function readerOf(body: CallBody, atOnce = Infinity): { readonly heard: string[]; readonly goOn: () => void } {
    const heard: string[] = [];
    let left = atOnce;
    body.read({
      onPiece: (piece) => {
        heard.push(piece.toString());
        left--;
        return left > 0;
      },
      onEnd: () => heard.push('end'),
      onBreak: (why) => heard.push(`broken: ${why}`),
    });
    const goOn = (): void => {
      left = atOnce;
      body.resume();
    };
    return { heard, goOn };
  }

  it('gives pieces in order and no faster than they are read, before the reader is there and after', () => {
    const property = fc.property(
      fc.array(fc.string({ minLength: 1 })),
      fc.integer({ min: 1, max: 5 }),
      fc.nat(),
      (texts, atOnce, late) => {
        const body = new CallBody(() => undefined);
        const early = texts.slice(0, late % (texts.length + 1));
        for (const text of early) body.push(Buffer.from(text));
        const { heard, goOn } = readerOf(body, atOnce);
        assert.ok(heard.length <= atOnce);
        for (const text of texts.slice(early.length)) body.push(Buffer.from(text));
        body.end();
        for (let turn = 0; turn <= texts.length; turn++) goOn();
        assert.deepEqual(heard, [...texts, 'end']);
      },
    );
    fc.assert(property);
  });

  it('gives credit for what was read alone, and none once all is here', () => {
    let credit = 0;
    const body = new CallBody((bytes) => (credit += bytes));
    const piece = Buffer.alloc(STREAM_STEP_BYTES / 2);
    body.push(piece);
    body.push(piece);
    assert.equal(credit, 0);
    const { goOn } = readerOf(body, 1);
    assert.equal(credit, 0);
    goOn();
    assert.equal(credit, STREAM_STEP_BYTES);
    body.push(piece);
    body.push(piece);
    body.end();
    goOn();
    goOn();
    assert.equal(credit, STREAM_STEP_BYTES);
  });

  it('breaks off at once: what waits is not all of it', () => {
    const body = new CallBody(() => undefined);
    const { heard, goOn } = readerOf(body, 1);
    for (const text of ['a', 'b', 'c']) body.push(Buffer.from(text));
    body.break('gone');
    goOn();
    assert.deepEqual(heard, ['a', 'broken: gone']);
    assert.ok(body.isBroken);
  });

  it('says nothing more to a reader that has cancelled it', () => {
    const body = new CallBody(() => undefined);
    const { heard } = readerOf(body);
    body.cancel();
    body.push(Buffer.from('a'));
    body.end();
    body.break('gone');
    assert.deepEqual(heard, []);
  });
});

describe('runner/runtimes/answer-body', () => {
  const events: string[] = [];
  const source = { onRoom: () => events.push('room'), onUnwanted: () => events.push('unwanted') };
  beforeEach(() => {
    events.length = 0;
  });

  it('sends no more than its credit, then all of it, then its end', () => {
    const piece = fc.integer({ min: 1, max: 400_000 });
    const property = fc.property(fc.array(piece, { maxLength: 8 }), fc.array(piece), (sizes, credits) => {
      const body = new AnswerBody(undefined, source);
      let sent = 0;
      let ends = 0;
      let given = STREAM_CREDIT_BYTES;
      const write = (): void => sizes.forEach((size) => body.write(Buffer.alloc(size)));
      write();
      body.start((kind, data) => {
        if (kind === FrameKind.streamData) sent += data.length;
        else ends++;
        assert.ok(sent <= given);
      });
      write();
      body.end();
      const whole = 2 * sizes.reduce((sum, size) => sum + size, 0);
      for (const more of [...credits, whole]) {
        given += more;
        body.give(more);
      }
      assert.deepEqual([sent, ends, body.hasRoom], [whole, 1, true]);
    });
    fc.assert(property, { numRuns: 50 });
  });

  it('asks its source for more when what waited has left, also when it began to leave late', () => {
    const body = new AnswerBody(undefined, source);
    body.write(Buffer.from('a'));
    assert.ok(!body.hasRoom);
    body.start(() => undefined);
    assert.deepEqual([events, body.hasRoom], [['room'], true]);
  });

  it('is reset in place of what waits when it breaks off, also before it began to leave', () => {
    const frames: [number, string][] = [];
    const body = new AnswerBody(undefined, source);
    body.write(Buffer.from('a'));
    body.break('rubbish');
    body.start((kind, data) => frames.push([kind, data.toString()]));
    assert.deepEqual(frames, [[FrameKind.streamReset, 'rubbish']]);
  });

  it('tells its source that nobody wants it, but not one that has written all of it', () => {
    const open = new AnswerBody(undefined, source);
    open.start(() => undefined);
    open.stop();
    assert.deepEqual(events, ['unwanted']);
    const written = new AnswerBody(undefined, source);
    written.write(Buffer.from('a'));
    written.end();
    written.stop();
    assert.deepEqual(events, ['unwanted']);
  });
});

describe('runner/runtimes/http-request: bodies on their way', () => {
  function write(pieces: readonly string[], bytes?: number): { text: string; heard: string[] } {
    const heard: string[] = [];
    let text = '';
    const stdin = new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        done();
      },
    });
    const body = new CallBody(() => undefined);
    body.read(
      new BodyWriter(stdin, bytes, {
        onWritten: () => heard.push('written'),
        onBroken: (why) => heard.push(why),
      }),
    );
    for (const piece of pieces) body.push(Buffer.from(piece));
    body.end();
    return { text, heard };
  }

  it('are chunks where nobody knows their length', () => {
    const text = '5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n';
    assert.deepEqual(write(['hello', '', '!']), { text, heard: ['written'] });
    assert.deepEqual(write([]), { text: '0\r\n\r\n', heard: ['written'] });
  });

  it('are the bytes alone where their length was declared, and nothing else may come', () => {
    assert.deepEqual(write(['hel', 'lo'], 5), { text: 'hello', heard: ['written'] });
    assert.deepEqual(write(['hel'], 5), { text: 'hel', heard: ['it was not as long as declared'] });
    assert.deepEqual(write(['hello!'], 5), { text: '', heard: ['it was not as long as declared'] });
  });
});
