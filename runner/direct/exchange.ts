import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TimerWheel, WheelEntry } from '../../core/deadline.ts';
import { SpentBuffers } from '../../core/spent-buffers.ts';
import { ERRORS, type ErrorCode } from '../../core/errors.ts';
import { DIRECT_CONTENT_TYPE, encodeDirectHead, readLength } from '../../core/wire/direct.ts';
import { encodeReplies, Envelope, type FailedReply, ReplyFlag } from '../../core/wire/envelope.ts';
import { STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES, STREAM_STEP_BYTES } from '../isolate/bridge.ts';
import { FrameKind } from '../isolate/channel.ts';
import type { Worker } from '../isolate/isolate.ts';
import type { Expectant } from './listener.ts';
import { readTrailers } from './trailers.ts';

/** Where the frames of streams come from and go to: the worker that runs the call. */
export type StreamEnd = Pick<Worker, 'stream' | 'cancel'>;

/** Bytes of all answers that wait at this runner for frontends to take them, and how many may before the slowest are ended. */
export interface Backlog {
  readonly maxBytes: number;
  bytes: number;
}

export interface ExchangeOptions {
  /** Of the call. */
  readonly id: Buffer;
  /** `POST`: the body of the call comes, and its answer goes. `GET`: only the answer goes. */
  readonly method: 'POST' | 'GET';
  readonly worker: StreamEnd;
  readonly wheel: TimerWheel;
  readonly backlog: Backlog;
  /** `POST`: somebody has come with the body. Frames of it follow. */
  readonly onClaimed?: () => void;
  /** `POST`: nobody came. */
  readonly onUnclaimed?: (why: 'late' | 'again') => void;
  /** It is over, whatever way; once. */
  readonly onEnd: (exchange: Exchange) => void;
}

/**
 * The head of an answer leaves with the first byte of its body, or when that has not come for so long: a func that fails
 * before both has its caller told so, and one that waits for its first event has begun.
 */
const HOLD_MS = 200;
/** A worker sends a piece when it has any credit left, however little. */
const MAX_OUTSTANDING_BYTES = STREAM_CREDIT_BYTES + STREAM_FRAME_BYTES;
/** Bytes that may wait in the connection before what comes waits here: Node's own bound stops it after each piece. */
const AHEAD_BYTES = 256 * 1024;
/** Pieces that are shorter than this on average leave as one: each would have a chunk of its own. */
const JOIN_BYTES = 4 * 1024;
/** Pieces that are kept apart: a body in bytes of their own would cost a hundred times its length. */
const MAX_PIECES = 4_096;

/**
 * The bytes of one call between the worker that runs it and the frontend that waits for it. Neither side is read faster
 * than the other takes it. Who lets go early has the other let go: a worker sees its call cancelled, a frontend its
 * connection reset, and never an end that is none.
 *
 * offered → claimed (there is a connection) → over. What comes from the worker comes from a stranger.
 */
export class Exchange implements Expectant, WheelEntry {
  readonly id: Buffer;
  readonly method: 'POST' | 'GET';
  tick = 0;
  readonly #options: ExchangeOptions;
  #req: IncomingMessage | undefined;
  #res: ServerResponse | undefined;
  #isRequestEnded = false;
  /** The answer, and the length of its body where that is known. */
  #head: Buffer | undefined;
  #length: number | undefined;
  /** Whether the head may leave, and whether it has left. */
  #mayBegin = false;
  #hasBegun = false;
  /** What the worker gave and nobody has taken yet; bounded by its credit. */
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** There is something to send at the end of this turn. */
  #isDue = false;
  readonly #spent = new SpentBuffers();
  #receivedBytes = 0;
  #trailers: Readonly<Record<string, string>> | undefined;
  #isBodyEnded = false;
  /** Bytes the worker would take now, and bytes of its own it may not replace yet. */
  #credit = STREAM_CREDIT_BYTES;
  #outstandingBytes = 0;
  #isOver = false;

  constructor(options: ExchangeOptions) {
    // A view of the message it came in would keep that.
    this.id = Buffer.from(options.id);
    this.method = options.method;
    this.#options = options;
  }

  onRequest(req: IncomingMessage, res: ServerResponse): void {
    this.#req = req;
    this.#res = res;
    res.on('close', () => this.#onClose());
    res.on('drain', () => this.#advance());
    res.on('error', () => undefined); // `close` follows.
    if (this.method === 'POST') {
      res.writeContinue();
      req.on('data', (chunk: Buffer) => this.#onRequestBytes(chunk));
      req.on('end', () => this.#onRequestEnd());
      this.#options.onClaimed?.();
    }
    res.writeHead(200, { 'content-type': DIRECT_CONTENT_TYPE });
    this.#advance();
  }

  onUnclaimed(why: 'late' | 'again'): void {
    if (this.method === 'GET') this.#letGo('nobody came for it');
    this.#over();
    this.#options.onUnclaimed?.(why);
  }

  /** The answer to the call: alone, or with a body that follows. */
  answer(reply: Envelope): void {
    if (this.#isOver || this.#head !== undefined) return;
    this.#head = encodeDirectHead(reply);
    if ((reply.replyFlags(0) & ReplyFlag.direct) === 0) {
      this.#isBodyEnded = true;
      this.#mayBegin = true;
      return this.#advance();
    }
    this.#length = readLength(reply.body(0));
    this.#options.wheel.add(this, HOLD_MS);
  }

  /** The head has waited long enough for the body. */
  expire(): void {
    this.#mayBegin = true;
    this.#advance();
  }

  /** A frame of the worker's for this call. @throws RangeError when it makes no sense */
  onFrame(kind: number, data: Buffer): void {
    switch (kind) {
      case FrameKind.streamData:
        return this.#onData(data);
      case FrameKind.streamEnd:
        return this.#onEnd(data);
      case FrameKind.streamReset:
        if (this.#head === undefined) return; // It does not want the rest of the body; it still has to answer.
        return this.#breakOff('FUNC_ERROR', 'the func threw while it made the body of its answer');
      case FrameKind.streamCredit:
        return this.#onCredit(data.readUInt32BE(0));
      default:
        throw new RangeError(`frame ${kind} is not of a stream`);
    }
  }

  /** Ends it from here: the worker is told to stop, the frontend sees its connection end. */
  reset(why: string): void {
    if (this.#isOver) return;
    this.#letGo(why);
    this.#cut();
  }

  /** Its end is not the end of the body. A call it has not answered is for whoever answers lost calls. */
  onWorkerGone(): void {
    if (this.#head !== undefined)
      this.#breakOff('FUNC_CRASHED', 'the worker died while it made the body of its answer');
  }

  #onRequestBytes(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#credit -= chunk.length;
    this.#stream(FrameKind.streamData, chunk);
    if (this.#credit <= 0) this.#req?.pause();
  }

  #onRequestEnd(): void {
    this.#isRequestEnded = true;
    if (!this.#isOver) this.#stream(FrameKind.streamEnd);
  }

  #onCredit(bytes: number): void {
    this.#credit += bytes;
    // It has read at most what it was sent.
    if (this.#credit > STREAM_CREDIT_BYTES) throw new RangeError(`credit for ${bytes} bytes it was never sent`);
    if (this.#credit > 0) this.#req?.resume();
  }

  #onData(data: Buffer): void {
    this.#outstandingBytes += data.length;
    if (this.#head === undefined) throw new RangeError('bytes of an answer that has not begun');
    if (this.#outstandingBytes > MAX_OUTSTANDING_BYTES) throw new RangeError('bytes beyond its credit');
    if (this.#isBodyEnded || data.length === 0) return;
    this.#receivedBytes += data.length;
    if (this.#receivedBytes > (this.#length ?? Infinity)) {
      this.#letGo('the body is longer than its answer said');
      return this.#breakOff('INVALID_RESPONSE', 'the body of the answer is longer than it said');
    }
    if (this.#pending.length >= MAX_PIECES) this.#pending = [Buffer.concat(this.#pending)];
    this.#pending.push(data);
    this.#pendingBytes += data.length;
    this.#mayBegin = true;
    const { backlog } = this.#options;
    backlog.bytes += data.length;
    if (this.#res === undefined) return this.#checkBacklog();
    // With what else comes in this turn.
    if (this.#isDue) return;
    this.#isDue = true;
    process.nextTick(() => this.#onTurnOver());
  }

  #onTurnOver(): void {
    this.#isDue = false;
    this.#advance();
    this.#checkBacklog();
  }

  #checkBacklog(): void {
    const { backlog } = this.#options;
    if (backlog.bytes <= backlog.maxBytes || this.#pendingBytes < STREAM_STEP_BYTES) return;
    this.#letGo('too many bytes wait for slow clients');
    this.#breakOff('OVERLOADED', 'too many bytes of answers wait for slow clients');
  }

  #onEnd(trailers: Buffer): void {
    if (this.#head === undefined) throw new RangeError('the end of an answer that has not begun');
    if (this.#isBodyEnded) return;
    if (this.#receivedBytes !== (this.#length ?? this.#receivedBytes))
      return this.#breakOff('INVALID_RESPONSE', 'the body of the answer is shorter than it said');
    this.#trailers = readTrailers(trailers);
    if (this.#trailers === undefined)
      return this.#breakOff('INVALID_RESPONSE', 'the trailers of the answer cannot be sent');
    this.#isBodyEnded = true;
    this.#mayBegin = true;
    this.#advance();
  }

  /** Sends what there is and is taken; gives back what has left for good, when it is worth a frame or the worker has no more. */
  #advance(): void {
    const res = this.#res;
    if (res === undefined || !this.#mayBegin || this.#isOver || res.writableEnded) return;
    if (!this.#hasBegun && this.#head !== undefined) {
      this.#hasBegun = true;
      this.#options.wheel.remove(this);
      res.write(this.#head);
    }
    if (res.writableLength > AHEAD_BYTES) return;
    this.#write(res);
    if (this.#isBodyEnded) {
      if (this.#trailers !== undefined) res.addTrailers(this.#trailers);
      // What the frontend still sends of a body nobody reads any more is for it to end.
      res.end();
    } else if (this.#outstandingBytes >= STREAM_STEP_BYTES && res.writableLength <= AHEAD_BYTES) {
      const credit = Buffer.allocUnsafe(4);
      credit.writeUInt32BE(this.#outstandingBytes);
      this.#outstandingBytes = 0;
      this.#stream(FrameKind.streamCredit, credit);
    }
  }

  #write(res: ServerResponse): void {
    const isMany = this.#pending.length > 1 && this.#pendingBytes < this.#pending.length * JOIN_BYTES;
    const pending = this.#takePending();
    const { socket } = res;
    // All of it in one go, and now.
    socket?.cork();
    for (const piece of isMany ? [Buffer.concat(pending)] : pending) {
      res.write(piece);
      this.#spent.add(piece);
    }
    socket?.uncork();
    if (socket !== null) this.#spent.free(res);
  }

  /** The body will not come to its end. As long as nothing of the answer has left, it becomes another one. */
  #breakOff(code: ErrorCode, message: string): void {
    if (this.#isOver || this.#isBodyEnded) return;
    if (this.#hasBegun) return this.#cut();
    const { status } = ERRORS[code];
    const body = JSON.stringify({ code, message } satisfies FailedReply);
    const failed = { id: this.id, status, flags: ReplyFlag.failed, waitUs: 0, funcUs: 0, meta: '', body };
    this.#head = encodeDirectHead(new Envelope(encodeReplies([failed])));
    this.#takePending();
    this.#isBodyEnded = true;
    this.#mayBegin = true;
    this.#advance();
  }

  #onClose(): void {
    // Finished, and the whole body was there: all is well. Otherwise the frontend has hung up.
    const isWhole = this.#res?.writableFinished === true && this.#isBodyEnded;
    if (this.#isOver) return;
    if (!isWhole) this.#letGo('the client has hung up');
    else if (this.method === 'POST' && !this.#isRequestEnded) this.#stream(FrameKind.streamReset, ANSWERED);
    this.#over();
  }

  /** Tells the worker that nobody brings or takes anything any more. */
  #letGo(why: string): void {
    this.#stream(FrameKind.streamReset, Buffer.from(why));
    this.#options.worker.cancel(this.id);
  }

  #takePending(): readonly Buffer[] {
    const pending = this.#pending;
    if (pending.length === 0) return pending;
    this.#pending = [];
    this.#options.backlog.bytes -= this.#pendingBytes;
    this.#pendingBytes = 0;
    return pending;
  }

  #stream(kind: number, data?: Buffer): void {
    this.#options.worker.stream(kind, this.id, data);
  }

  #cut(): void {
    this.#res?.destroy();
    this.#over();
  }

  #over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#takePending();
    // What still comes of the body is dropped: the next request on this connection lies behind it.
    this.#req?.resume();
    this.#options.wheel.remove(this);
    this.#options.onEnd(this);
  }
}

const ANSWERED = Buffer.from('the call has been answered');
