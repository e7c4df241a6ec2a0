import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { DirectHeadReader, type DirectOffer } from '../core/wire/direct.ts';
import type { Envelope } from '../core/wire/envelope.ts';

/** How a transfer ended when its answer did not come: nothing of it can have reached the func, or all of it may have. */
export type TransferFailure = 'unreachable' | 'lost' | 'tooLarge';

/** Who waits for a transfer. One of `onAnswer` and `onTransferFailure` is called, once, unless it is stopped before. */
export interface TransferOwner {
  /** The runner is there: the body is about to be sent. */
  onConnected(): void;
  /** The answer, or the body of one. Its content is paused: it is the owner's to read, after `first`. */
  onAnswer(content: IncomingMessage, first: Buffer, reply: Envelope | undefined): void;
  onTransferFailure(failure: TransferFailure): void;
}

export interface TransferOptions {
  readonly offer: DirectOffer;
  readonly owner: TransferOwner;
  readonly agent: Agent;
  /** What is sent: bytes that are here, or a request whose body has not been read; absent: the body of an answer is fetched. */
  readonly body?: Buffer | IncomingMessage;
  /** Most bytes read from a request. */
  readonly maxBytes: number;
}

/** Keeps connections to runners: as long as these keep them open. */
export function createTransferAgent(): Agent {
  return new Agent({ keepAlive: true, maxFreeSockets: 64, timeout: 0 });
}

/** The bytes of one call, straight to a runner and back (core/wire/direct.ts). Neither side is read faster than the other takes it. */
export class Transfer {
  readonly #options: TransferOptions;
  readonly #upstream: ClientRequest;
  readonly #head: DirectHeadReader | undefined;
  #isConnected = false;
  #isOver = false;
  #sentBytes = 0;

  constructor(options: TransferOptions) {
    this.#options = options;
    const { offer, agent, body } = options;
    const headers: Record<string, string> = { authorization: `Bearer ${offer.token}` };
    if (Buffer.isBuffer(body)) headers['content-length'] = String(body.length);
    this.#head = body === undefined ? undefined : new DirectHeadReader();
    this.#upstream = request(offer.url, { method: body === undefined ? 'GET' : 'POST', agent, headers });
    this.#upstream.on('error', () => this.#fail());
    this.#upstream.on('close', () => this.#fail());
    this.#upstream.on('response', (response) => this.#onResponse(response));
    this.#upstream.on('socket', (socket) => {
      if (socket.connecting) socket.once('connect', () => this.#onConnected());
      else this.#onConnected();
    });
  }

  /** Nobody waits any more: the runner sees its connection end. Does nothing when all has come. */
  stop(): void {
    this.#isOver = true;
    this.#upstream.destroy();
  }

  #onConnected(): void {
    if (this.#isOver) return;
    this.#isConnected = true;
    const { body, owner } = this.#options;
    if (body === undefined || Buffer.isBuffer(body)) return void this.#upstream.end(body);
    owner.onConnected();
    body.on('data', (chunk: Buffer) => this.#onBody(body, chunk));
    body.on('end', () => this.#upstream.end());
    this.#upstream.on('drain', () => body.resume());
  }

  #onBody(body: IncomingMessage, chunk: Buffer): void {
    if (this.#upstream.destroyed) return; // What still comes is thrown away.
    this.#sentBytes += chunk.length;
    if (this.#sentBytes > this.#options.maxBytes) return this.#fail('tooLarge');
    if (!this.#upstream.write(chunk)) body.pause();
  }

  #onResponse(response: IncomingMessage): void {
    if (this.#isOver) return;
    if (response.statusCode !== 200) return this.#fail();
    const head = this.#head;
    if (head === undefined) return this.#answer(response, EMPTY, undefined);
    const onData = (piece: Buffer): void => {
      try {
        const found = head.push(piece);
        if (found === undefined) return;
        response.off('data', onData);
        response.pause();
        this.#answer(response, found.rest, found.reply);
      } catch {
        this.#fail(); // Nothing a runner of ours says.
      }
    };
    response.on('data', onData);
  }

  #answer(content: IncomingMessage, first: Buffer, reply: Envelope | undefined): void {
    this.#isOver = true;
    this.#options.owner.onAnswer(content, first, reply);
  }

  #fail(failure?: TransferFailure): void {
    if (this.#isOver) return;
    this.stop();
    const { owner, body } = this.#options;
    const mayHaveRun = this.#isConnected && body !== undefined;
    owner.onTransferFailure(failure ?? (mayHaveRun ? 'lost' : 'unreachable'));
  }
}

const EMPTY = Buffer.alloc(0);

/**
 * Sends the rest of an answer on: `first`, then the content to its end, with its trailers. When it breaks off, or `target`
 * goes, the other goes too: nobody takes a part for the whole.
 */
export function passOn(content: IncomingMessage, first: Buffer, target: PassTarget): void {
  if (first.length > 0) target.write(first);
  content.on('data', (piece: Buffer) => {
    if (!target.write(piece)) content.pause();
  });
  target.on('drain', () => content.resume());
  content.on('end', () => {
    if (Object.keys(content.trailers).length > 0) target.addTrailers(content.trailers as Record<string, string>);
    target.end();
  });
  content.on('close', () => {
    if (!content.readableEnded) target.destroy();
  });
  content.on('error', () => undefined); // `close` follows.
  content.resume();
}

/** What `passOn` needs of a `ServerResponse`. */
export interface PassTarget {
  write(piece: Buffer): boolean;
  on(event: 'drain', listener: () => void): unknown;
  addTrailers(trailers: Record<string, string>): void;
  end(): unknown;
  destroy(): unknown;
}
