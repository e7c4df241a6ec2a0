import type { IncomingMessage, ServerResponse } from 'node:http';
import { DIRECT_CONTENT_TYPE, encodeDirectHead } from '../../core/wire/direct.ts';
import { type Envelope, ReplyFlag } from '../../core/wire/envelope.ts';
import { STREAM_CREDIT_BYTES, STREAM_STEP_BYTES } from '../isolate/bridge.ts';
import { FrameKind } from '../isolate/channel.ts';
import type { Worker } from '../isolate/isolate.ts';
import type { Expectant } from './listener.ts';

/** Where the frames of streams come from and go to: the worker that runs the call. */
export type StreamEnd = Pick<Worker, 'stream' | 'cancel'>;

export interface ExchangeOptions {
  /** Of the call. */
  readonly id: Buffer;
  /** `POST`: the body of the call comes, and its answer goes. `GET`: only the body of the answer goes. */
  readonly method: 'POST' | 'GET';
  readonly worker: StreamEnd;
  /** It is over, whatever way; once. */
  readonly onEnd: (exchange: Exchange) => void;
}

/**
 * The bytes of one call between the worker that runs it and the frontend that waits for it. Neither side is read faster
 * than the other takes it. Who lets go early has the other let go: a worker sees its call cancelled, a frontend its
 * connection reset, and never an end that is none.
 *
 * offered → claimed (there is a connection) → over
 */
export class Exchange implements Expectant {
  readonly id: Buffer;
  readonly method: 'POST' | 'GET';
  readonly #worker: StreamEnd;
  readonly #onEnd: (exchange: Exchange) => void;
  #req: IncomingMessage | undefined;
  #res: ServerResponse | undefined;
  /** What the worker gave before anybody came for it; bounded by its credit. */
  #early: Buffer[] = [];
  #isBodyEnded = false;
  #hasAnswer: boolean;
  /** Bytes the worker would take now, and bytes of its own that left and it may replace. */
  #credit = STREAM_CREDIT_BYTES;
  #spent = 0;
  #isOver = false;

  constructor({ id, method, worker, onEnd }: ExchangeOptions) {
    // A view of the message it came in would keep that.
    this.id = Buffer.from(id);
    this.method = method;
    this.#worker = worker;
    this.#onEnd = onEnd;
    this.#hasAnswer = method === 'GET';
  }

  onRequest(req: IncomingMessage, res: ServerResponse): void {
    this.#req = req;
    this.#res = res;
    res.on('close', () => this.#onClose());
    res.on('drain', () => this.#giveCredit());
    res.writeHead(200, { 'content-type': this.method === 'POST' ? DIRECT_CONTENT_TYPE : 'application/octet-stream' });
    const early = this.#early;
    this.#early = [];
    for (const piece of early) res.write(piece);
    this.#giveCredit();
    if (this.#isBodyEnded) return void res.end();
    if (this.method === 'GET') return;
    req.on('data', (chunk: Buffer) => this.#onRequestBytes(chunk));
    req.on('end', () => this.#worker.stream(FrameKind.streamEnd, this.id));
  }

  onUnclaimed(): void {
    this.reset('nobody came for it');
  }

  /** The answer to the call: alone, or with a body that follows. */
  answer(reply: Envelope): void {
    if (this.#isOver || this.#hasAnswer) return;
    this.#hasAnswer = true;
    this.#write(encodeDirectHead(reply));
    if ((reply.replyFlags(0) & ReplyFlag.direct) === 0) this.#endBody();
  }

  /** A frame of the worker's for this call. @throws RangeError when it makes no sense */
  onFrame(kind: number, data: Buffer): void {
    switch (kind) {
      case FrameKind.streamData:
        this.#spent += data.length;
        if (!this.#hasAnswer || this.#spent > STREAM_CREDIT_BYTES) throw new RangeError('bytes beyond its credit');
        return this.#write(data);
      case FrameKind.streamEnd:
        return this.#endBody(data);
      case FrameKind.streamReset:
        return this.#break();
      case FrameKind.streamCredit:
        this.#credit += data.readUInt32BE(0);
        if (this.#credit > 0) this.#req?.resume();
        return;
      default:
        throw new RangeError(`frame ${kind} is not of a stream`);
    }
  }

  /** Ends it from here: the worker is told to stop, the frontend sees its connection end. */
  reset(why: string): void {
    if (this.#isOver) return;
    this.#worker.stream(FrameKind.streamReset, this.id, Buffer.from(why));
    this.#worker.cancel(this.id);
    this.#break();
  }

  /** Its end is not the end of the body. An answer that has not begun is for whoever answers lost calls. */
  onWorkerGone(): void {
    if (this.#hasAnswer) this.#break();
  }

  #onRequestBytes(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#credit -= chunk.length;
    this.#worker.stream(FrameKind.streamData, this.id, chunk);
    if (this.#credit <= 0) this.#req?.pause();
  }

  #write(piece: Buffer): void {
    const res = this.#res;
    if (res === undefined) return void this.#early.push(piece);
    if (res.destroyed) return;
    if (res.write(piece)) this.#giveCredit();
  }

  /** Gives back what has left for good, when it is worth a frame or the worker has no more. */
  #giveCredit(): void {
    if (this.#spent < STREAM_STEP_BYTES || this.#res?.writableNeedDrain === true || this.#isOver) return;
    const credit = Buffer.allocUnsafe(4);
    credit.writeUInt32BE(this.#spent);
    this.#spent = 0;
    this.#worker.stream(FrameKind.streamCredit, this.id, credit);
  }

  #endBody(trailers?: Buffer): void {
    if (this.#isBodyEnded) return;
    this.#isBodyEnded = true;
    const res = this.#res;
    if (res === undefined) return;
    if (trailers !== undefined && trailers.length > 0) res.addTrailers(readTrailers(trailers));
    // What the frontend still sends of a body nobody reads any more ends with the connection.
    res.end();
  }

  #break(): void {
    this.#res?.destroy();
    this.#over();
  }

  #onClose(): void {
    const res = this.#res;
    // Finished, and the whole body was there: all is well. Otherwise the frontend has hung up.
    if (res?.writableFinished === true && this.#isBodyEnded) return this.#over();
    if (this.#isOver) return;
    this.#worker.stream(FrameKind.streamReset, this.id, HUNG_UP);
    this.#worker.cancel(this.id);
    this.#over();
  }

  #over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#early = [];
    this.#onEnd(this);
  }
}

const HUNG_UP = Buffer.from('the client has hung up');

/** Trailers as the worker gives them: a JSON object of strings, from a stranger. */
function readTrailers(json: Buffer): Record<string, string> {
  const trailers: unknown = JSON.parse(json.toString());
  if (typeof trailers !== 'object' || trailers === null) throw new RangeError('trailers that are none');
  return Object.fromEntries(Object.entries(trailers).map(([name, value]) => [name, String(value)]));
}
