import assert from 'node:assert/strict';
import { request, type IncomingMessage } from 'node:http';
import { delay } from '../../../core/lifecycle.ts';
import { newId, parseId } from '../../../core/id.ts';
import { RpcTarget } from '../../../core/broker/batch.ts';
import { DirectHeadReader, encodeLength, readOffer, type DirectOffer } from '../../../core/wire/direct.ts';
import { CallFlag, type Envelope, type FailedReply, ReplyFlag } from '../../../core/wire/envelope.ts';
import { FrameKind } from '../../../runner/isolate/channel.ts';
import type { IsolateKind } from '../../../runner/isolate/isolate.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubCall, type StubIsolate, type StubWorker } from './stub-isolate.ts';
import { gate, openTestRunner, type TestRunner } from './test-runner.ts';

const MiB = 1024 * 1024;
const EMPTY = Buffer.alloc(0);
const operations = [{ operationId: 'upload', method: 'POST' as const }];

interface Frame {
  readonly kind: number;
  readonly data: Buffer;
}

/** What came back over the direct path. */
interface Answer {
  readonly status: number;
  readonly reply: Envelope | undefined;
  readonly body: Buffer;
  readonly trailers: NodeJS.Dict<string>;
  readonly isWhole: boolean;
}

describe('runner/direct/exchange', () => {
  let test: TestRunner;
  let isolate: StubIsolate;
  let calls: StubCall[];
  let frames: Frame[];

  beforeEach(async () => {
    calls = [];
    frames = [];
    isolate = createStubIsolate({
      upload(call) {
        calls.push(call);
        return undefined;
      },
    });
    test = await openTestRunner({ operations, isolate: recording(isolate) });
  });
  afterEach(() => test.close());

  /** Its workers remember what is streamed to them, and send what a test has them send. */
  function recording(kind: StubIsolate): IsolateKind {
    return {
      name: kind.name,
      async start(spec, events) {
        const worker = await kind.start(spec, events);
        worker.stream = (streamed, _id, data = Buffer.alloc(0)) => void frames.push({ kind: streamed, data });
        return worker;
      },
    };
  }

  /** Calls as a frontend does; what the runner offers for it. */
  function offerOf(id: Buffer, flags: number, timeoutMs = 5_000): Promise<{ offer: DirectOffer; flags: number }> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + timeoutMs;
      test.rpc.call(
        new RpcTarget(test.bundle.queue, 25),
        { id, deadline, operation: 0, flags, meta: '', body: undefined },
        {
          onReply(envelope, index) {
            const body = envelope.body(index);
            if ((envelope.replyFlags(index) & ReplyFlag.failed) !== 0) return reject(new Error(body.toString()));
            resolve({ offer: readOffer(body, id), flags: envelope.replyFlags(index) });
          },
          onFailure: (failure) => reject(new Error(failure)),
        },
      );
    });
  }

  const someId = (): Buffer => parseId(newId()) ?? assert.fail();

  /** Brings a body, or fetches an answer. */
  function come(offer: DirectOffer, method: 'POST' | 'GET') {
    const req = request(offer.url, {
      method,
      agent: false,
      headers: { authorization: `Bearer ${offer.token}`, ...(method === 'POST' ? { expect: '100-continue' } : {}) },
    });
    if (method === 'GET') req.end();
    const answered = Promise.withResolvers<IncomingMessage>();
    const ended = new Promise<Answer>((resolve) => {
      const head = new DirectHeadReader();
      const pieces: Buffer[] = [];
      let reply: Envelope | undefined;
      req.on('error', () => resolve({ status: 0, reply, body: Buffer.alloc(0), trailers: {}, isWhole: false }));
      req.on('response', (res) => {
        answered.resolve(res);
        res.on('error', () => undefined);
        res.on('data', (piece: Buffer) => {
          const found = reply === undefined && res.statusCode === 200 ? head.push(piece) : undefined;
          if (found !== undefined) ({ reply } = found);
          pieces.push(found?.rest ?? (reply === undefined ? Buffer.alloc(0) : piece));
        });
        res.on('close', () =>
          resolve({
            status: res.statusCode ?? 0,
            reply,
            body: Buffer.concat(pieces),
            trailers: res.trailers,
            isWhole: res.readableEnded,
          }),
        );
      });
    });
    const taken = new Promise<void>((resolve) => req.on('continue', resolve));
    return { req, taken, answered: answered.promise, ended };
  }

  const DIRECT = CallFlag.direct | CallFlag.fetches;

  /** A call whose body has begun to come, and its worker. */
  async function taken() {
    const id = someId();
    const { offer, flags } = await offerOf(id, DIRECT);
    assert.equal(flags, ReplyFlag.accepted);
    const exchange = come(offer, 'POST');
    await exchange.taken;
    await until('it runs', () => calls.length > 0);
    return { id, ...exchange, worker: workerOf(0) };
  }

  function workerOf(index: number): StubWorker {
    return isolate.workers[index] ?? assert.fail();
  }

  /** The tag of the one call that runs here: addresses count up, and that of the reply queue is among the first. */
  function answerFor(worker: StubWorker, id: Buffer, flags: number, body: Buffer | string): void {
    for (let tag = 1; tag < 20; tag++) {
      worker.reply(tag, [{ id, status: 200, flags, waitUs: 0, funcUs: 0, meta: '', body }]);
    }
  }

  function frame(worker: StubWorker, kind: number, id: Buffer, data: Buffer = EMPTY): void {
    worker.events.onStream?.(kind, Buffer.concat([id, data]));
  }

  async function isIdle(): Promise<void> {
    await until('nothing is left', async () => {
      const response = await fetch(`http://127.0.0.1:${test.runner.adminPort}/metrics`);
      const lines = (await response.text()).split('\n');
      const counts = lines.filter((line) => /^funcatron_runner_(direct_|reply_addresses|calls_in_flight)/.test(line));
      return counts.length >= 4 && counts.every((line) => line.endsWith(' 0'));
    });
  }

  function failureOf({ reply }: Answer): FailedReply {
    assert.equal((reply?.replyFlags(0) ?? 0) & ReplyFlag.failed, ReplyFlag.failed);
    return JSON.parse(reply?.body(0).toString() ?? '') as FailedReply;
  }

  it('starts a call when its body comes, and not before', async () => {
    const id = someId();
    const { offer } = await offerOf(id, DIRECT);
    await delay(50);
    assert.equal(calls.length, 0);
    const { req, taken: isTaken, ended } = come(offer, 'POST');
    await isTaken;
    req.end('body');
    await until('the body is there', () => frames.some(({ kind }) => kind === FrameKind.streamEnd));
    assert.equal(calls.length, 1);
    answerFor(workerOf(0), id, ReplyFlag.json, '"done"');
    assert.equal((await ended).reply?.body(0).toString(), '"done"');
    await isIdle();
  });

  it('gives the slot back when nobody comes, with a code in the log of the bundle', async function () {
    this.timeout(15_000);
    const { offer } = await offerOf(someId(), DIRECT, 300);
    await isIdle();
    await until('it says so', () => test.lines.some(({ message }) => message.includes('RUNNER_UNREACHABLE')));
    assert.equal(calls.length, 0);
    assert.equal(workerOf(0).exit, undefined);
    assert.equal((await come(offer, 'POST').ended).status, 404);
  });

  it('holds one offer of a call that comes again', async () => {
    const id = someId();
    const first = await offerOf(id, DIRECT);
    const second = await offerOf(id, DIRECT);
    assert.equal((await come(first.offer, 'POST').ended).status, 403);
    const { req, taken: isTaken, ended } = come(second.offer, 'POST');
    await isTaken;
    req.end();
    await until('it runs', () => calls.length === 1);
    answerFor(workerOf(0), id, ReplyFlag.json, '{}');
    assert.equal((await ended).isWhole, true);
    await isIdle();
  });

  it('offers a call that comes again before the confirm of its first offer', async () => {
    await test.close();
    let held: ReturnType<typeof gate> | undefined;
    test = await openTestRunner({
      operations,
      isolate: recording(isolate),
      wrap: (broker) => (held = gate(broker, ({ properties }) => properties.type === 'replies', 'confirms')).broker,
    });
    const id = someId();
    await offerOf(id, DIRECT);
    const { offer } = await offerOf(id, DIRECT);
    const { req, taken: isTaken, ended } = come(offer, 'POST');
    await isTaken;
    req.end();
    await until('it runs', () => calls.length === 1);
    held?.open();
    answerFor(workerOf(0), id, ReplyFlag.json, '{}');
    assert.equal((await ended).isWhole, true);
    await isIdle();
    await test.runnerBroker.close();
    assert.equal((await test.broker.probe(test.bundle.queue))?.messages, 0);
  });

  it('does not run twice for a token that comes twice', async () => {
    const id = someId();
    const { offer } = await offerOf(id, DIRECT);
    const [one, other] = [come(offer, 'POST'), come(offer, 'POST')];
    await Promise.race([one.taken, other.taken]);
    await until('it runs', () => calls.length === 1);
    answerFor(workerOf(0), id, ReplyFlag.json, '{}');
    const answers = await Promise.all([one.ended, other.ended]);
    assert.equal(answers[0].status + answers[1].status, 604);
    assert.equal(calls.length, 1);
    await isIdle();
  });

  it('tells the worker when the frontend is gone in the middle of a body', async () => {
    const { id, req, worker } = await taken();
    req.write('some');
    await until('some of it is there', () => frames.length > 0);
    req.destroy();
    await until('it is told', () => frames.some(({ kind }) => kind === FrameKind.streamReset));
    assert.equal(worker.cancelled.length, 1);
    answerFor(worker, id, ReplyFlag.json, '{}');
    await isIdle();
  });

  it('tells the worker that the rest of a body does not come when it has answered', async () => {
    const { id, req, ended, worker } = await taken();
    answerFor(worker, id, ReplyFlag.json, '{}');
    assert.equal((await ended).isWhole, true);
    await until('it is told', () => frames.some(({ kind }) => kind === FrameKind.streamReset));
    req.destroy();
    await isIdle();
  });

  it('answers FUNC_CRASHED when the worker dies before its answer', async () => {
    const { ended, worker } = await taken();
    worker.die();
    assert.equal(failureOf(await ended).code, 'FUNC_CRASHED');
    await isIdle();
  });

  it('cuts the answer off when the worker dies in the middle of it', async () => {
    const { id, ended, worker, answered } = await taken();
    answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
    frame(worker, FrameKind.streamData, id, Buffer.from('some'));
    await answered;
    worker.die();
    assert.equal((await ended).isWhole, false);
    await isIdle();
  });

  it('answers FUNC_CRASHED to who fetches an answer whose worker died before its first byte', async () => {
    const id = someId();
    const offered = offerOf(id, CallFlag.fetches);
    await until('it runs', () => calls.length === 1);
    answerFor(workerOf(0), id, ReplyFlag.direct, encodeLength(undefined));
    const { offer } = await offered;
    workerOf(0).die();
    assert.equal(failureOf(await come(offer, 'GET').ended).code, 'FUNC_CRASHED');
    await isIdle();
  });

  it('lets go of an answer that nobody fetches', async function () {
    this.timeout(15_000);
    const id = someId();
    const offered = offerOf(id, CallFlag.fetches);
    await until('it runs', () => calls.length === 1);
    answerFor(workerOf(0), id, ReplyFlag.direct, encodeLength(undefined));
    frame(workerOf(0), FrameKind.streamData, id, Buffer.alloc(1_000));
    await offered;
    await isIdle();
    assert.ok(frames.some(({ kind }) => kind === FrameKind.streamReset));
  });

  it('shows the head of an answer whose body has not begun', async () => {
    const { id, worker, answered, ended } = await taken();
    answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
    await answered;
    frame(worker, FrameKind.streamReset, id, Buffer.from('no'));
    assert.equal((await ended).isWhole, false);
  });

  describe('of a worker that is a stranger', () => {
    it('passes over frames of calls it does not have', async () => {
      const { id, worker, ended } = await taken();
      for (const kind of [FrameKind.streamData, FrameKind.streamEnd, FrameKind.streamReset, FrameKind.streamCredit]) {
        frame(worker, kind, someId(), Buffer.alloc(4));
        worker.events.onStream?.(kind, Buffer.alloc(3));
      }
      answerFor(worker, id, ReplyFlag.json, '{}');
      assert.equal((await ended).isWhole, true);
    });

    for (const [what, kind, data] of [
      ['bytes before its answer', FrameKind.streamData, Buffer.from('x')],
      ['the end before its answer', FrameKind.streamEnd, Buffer.alloc(0)],
      ['credit for bytes it was not sent', FrameKind.streamCredit, u32(1)],
      ['credit of 4 GiB', FrameKind.streamCredit, u32(2 ** 32 - 1)],
      ['credit that is no number', FrameKind.streamCredit, Buffer.alloc(3)],
      ['a frame of no kind', 99, Buffer.alloc(0)],
    ] as const) {
      it(`throws at ${what}, for which a worker is killed`, async () => {
        const { id, worker, ended } = await taken();
        assert.throws(() => frame(worker, kind, id, data), RangeError);
        worker.die();
        assert.equal(failureOf(await ended).code, 'FUNC_CRASHED');
        await isIdle();
      });
    }

    it('throws at bytes beyond its credit', async () => {
      const { id, worker, answered } = await taken();
      answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
      const res = await answered;
      res.pause();
      assert.throws(() => {
        for (let count = 0; count < 40; count++) frame(worker, FrameKind.streamData, id, Buffer.alloc(64 * 1024));
      }, RangeError);
      worker.die();
    });

    it('keeps a body that comes a byte at a time in few pieces', async () => {
      const { id, worker, answered, ended } = await taken();
      answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
      await answered;
      const before = process.memoryUsage().rss;
      for (let count = 0; count < MiB; count++) frame(worker, FrameKind.streamData, id, Buffer.from([count & 255]));
      assert.ok(process.memoryUsage().rss - before < 256 * MiB);
      frame(worker, FrameKind.streamEnd, id);
      assert.equal((await ended).body.length, MiB);
    }).timeout(20_000);

    it('takes the first end for the end', async () => {
      const { id, worker, answered, ended } = await taken();
      answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
      await answered;
      frame(worker, FrameKind.streamData, id, Buffer.from('all'));
      frame(worker, FrameKind.streamEnd, id);
      frame(worker, FrameKind.streamEnd, id);
      frame(worker, FrameKind.streamData, id, Buffer.from('more'));
      frame(worker, FrameKind.streamReset, id);
      const { body, isWhole } = await ended;
      assert.deepEqual([body.toString(), isWhole], ['all', true]);
      await isIdle();
    });

    for (const [what, length, body] of [
      ['longer', 3, 'four'],
      ['shorter', 5, 'four'],
    ] as const) {
      it(`cuts off a body that is ${what} than its answer said`, async () => {
        const { id, worker, answered, ended } = await taken();
        answerFor(worker, id, ReplyFlag.direct, encodeLength(length));
        await answered;
        frame(worker, FrameKind.streamData, id, Buffer.from(body));
        frame(worker, FrameKind.streamEnd, id);
        assert.equal((await ended).isWhole, false);
        await isIdle();
      });
    }

    for (const [what, trailers] of [
      ['giant', JSON.stringify({ 'x-a': 'a'.repeat(10 * MiB) })],
      ['split', JSON.stringify({ 'x-a': 'a\r\nx-b: b' })],
      ['nameless', JSON.stringify({ '': 'a' })],
      ['no JSON', '{'],
      ['null', 'null'],
    ] as const) {
      it(`cuts off a body with trailers that are ${what}, and lets the worker live`, async () => {
        const { id, worker, answered, ended } = await taken();
        answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
        await answered;
        frame(worker, FrameKind.streamData, id, Buffer.from('x'));
        frame(worker, FrameKind.streamEnd, id, Buffer.from(trailers));
        assert.equal((await ended).isWhole, false);
        await isIdle();
      });
    }

    it('leaves out trailers that frame the message', async () => {
      const { id, worker, ended } = await taken();
      answerFor(worker, id, ReplyFlag.direct, encodeLength(undefined));
      const trailers = { 'x-sum': 7, 'Content-Length': '9', 'transfer-encoding': 'chunked' };
      frame(worker, FrameKind.streamEnd, id, Buffer.from(JSON.stringify(trailers)));
      assert.deepEqual((await ended).trailers, { 'x-sum': '7' });
    });

    it('throws when it says that a call is accepted, which only a runner says', async () => {
      const { id, worker, ended } = await taken();
      const body = JSON.stringify({ url: 'http://169.254.169.254/direct/x', token: 'A'.repeat(43) });
      assert.throws(() => answerFor(worker, id, ReplyFlag.accepted, body), RangeError);
      worker.die();
      assert.equal(failureOf(await ended).code, 'FUNC_CRASHED');
    });

    it('throws when it streams an answer to who cannot fetch it', async () => {
      const id = someId();
      const outcome = offerOf(id, 0);
      await until('it runs', () => calls.length === 1);
      assert.throws(() => answerFor(workerOf(0), id, ReplyFlag.direct, encodeLength(undefined)), RangeError);
      workerOf(0).die();
      await assert.rejects(outcome, /FUNC_CRASHED/);
    });
  });
});

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
