import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { SpentBuffers } from '../core/spent-buffers.ts';
import { DirectHeadReader, type DirectOffer } from '../core/wire/direct.ts';
import type { Envelope } from '../core/wire/envelope.ts';

/** How a transfer ended when its answer did not come. `unreachable`: the call has certainly not been started for it. */
export type TransferFailure = 'unreachable' | 'lost' | 'tooLarge';

/** Who waits for a transfer. One of `onAnswer` and `onTransferFailure` is called, once, unless it is stopped before. */
export interface TransferOwner {
  /** Somebody listens there. */
  onConnected(): void;
  /** The runner has started the call, and takes its body. */
  onTaken(): void;
  /** The answer; where a body follows it, that is the content, after `first`. It is paused, and the owner's to read. */
  onAnswer(content: IncomingMessage, first: Buffer, reply: Envelope): void;
  onTransferFailure(failure: TransferFailure): void;
}

export interface TransferOptions {
  readonly offer: DirectOffer;
  readonly owner: TransferOwner;
  readonly agent: Agent;
  /** What is sent: bytes that are here, or a request whose body has not been read; absent: an answer is fetched. */
  readonly body?: Buffer | IncomingMessage;
  /** Most bytes read from a request. */
  readonly maxBytes: number;
}

/** Idle connections go before runners close theirs (30 s): a request on its way to one that closes would be lost. */
const IDLE_MS = 15_000;

/** Bytes that may wait in a connection before the one they come from is not read any more: Node's own bound stops it after each read. */
export const AHEAD_BYTES = 256 * 1024;
/** What one read may take. */
const READ_BYTES = 256 * 1024;

/** Keeps connections to runners for a while. */
export function createTransferAgent(): Agent {
  const agent = new Agent({ keepAlive: true, maxFreeSockets: 64, timeout: IDLE_MS });
  // All of them read into the same memory, each at once to its end: the parser copies what it hands on. The 64 KiB of new
  // memory that Node takes for each read otherwise are for the collector, which lets 64 MiB of them lie.
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  agent.createConnection = (options): Socket => {
    function callback(bytes: number): true {
      socket.emit('data', buffer.subarray(0, bytes));
      return true;
    }
    const socket = connect({ ...(options as NetConnectOpts), onread: { buffer, callback } });
    return socket;
  };
  return agent;
}

/**
 * The bytes of one call, straight to a runner and back (core/wire/direct.ts). Neither side is read faster than the other
 * takes it.
 *
 * connecting → asking (the body is held back) → taken → answered; each → over. An answer that is fetched is never taken.
 */
export class Transfer {
  readonly #options: Omit<TransferOptions, 'body'>;
  /** Not kept when it has been sent. */
  #body: Buffer | IncomingMessage | undefined;
  readonly #head = new DirectHeadReader();
  #upstream: ClientRequest;
  #state: 'connecting' | 'asking' | 'taken' | 'answered' | 'over' = 'connecting';
  #isSecond = false;
  #sentBytes = 0;
  readonly #spent = new SpentBuffers();

  constructor({ body, ...options }: TransferOptions) {
    this.#options = options;
    this.#body = body;
    this.#upstream = this.#ask(options.agent);
  }

  /** Whether all has been sent that was to be sent. */
  get isSent(): boolean {
    return this.#body === undefined || Buffer.isBuffer(this.#body) || this.#body.readableEnded;
  }

  /** Nobody waits any more: the runner sees its connection end. Does nothing when all has come. */
  stop(): void {
    this.#state = 'over';
    this.#upstream.destroy();
  }

  /** It has taken too long to connect, or to be taken: by now the runner has withdrawn its offer. */
  giveUp(): void {
    this.#fail('unreachable');
  }

  #ask(agent: Agent | false): ClientRequest {
    const { offer } = this.#options;
    const body = this.#body;
    const headers: Record<string, string> = { authorization: `Bearer ${offer.token}` };
    if (body !== undefined) headers['expect'] = '100-continue';
    // A length that is known saves the runner two frames of chunked coding in each read, and every piece its cut in two.
    const length = Buffer.isBuffer(body) ? String(body.length) : body?.headers['content-length'];
    if (length !== undefined) headers['content-length'] = length;
    const upstream = request(offer.url, { method: body === undefined ? 'GET' : 'POST', agent, headers });
    upstream.on('error', () => this.#onGone(upstream));
    upstream.on('close', () => this.#onGone(upstream));
    upstream.on('continue', () => this.#onContinue());
    upstream.on('response', (response) => this.#onResponse(response));
    upstream.on('socket', (socket) => {
      if (socket.connecting) socket.once('connect', () => this.#onConnected());
      else this.#onConnected();
    });
    if (body === undefined) upstream.end();
    return upstream;
  }

  #onConnected(): void {
    if (this.#state !== 'connecting') return;
    this.#state = 'asking';
    this.#options.owner.onConnected();
  }

  #onContinue(): void {
    const body = this.#body;
    if (this.#state !== 'asking' || body === undefined) return;
    this.#state = 'taken';
    this.#options.owner.onTaken();
    if (Buffer.isBuffer(body)) return void this.#upstream.end(body);
    body.on('data', (chunk: Buffer) => this.#onBody(body, chunk));
    body.on('end', () => this.#upstream.end());
    this.#upstream.on('drain', () => {
      this.#spent.free(this.#upstream);
      body.resume();
    });
  }

  #onBody(body: IncomingMessage, chunk: Buffer): void {
    if (this.#upstream.destroyed) return; // What still comes is thrown away.
    this.#sentBytes += chunk.length;
    if (this.#sentBytes > this.#options.maxBytes) {
      // Once it is answered there is nobody to tell; the func sees its body, and the client the answer, break off.
      if (this.#state === 'answered') return this.stop();
      return this.#fail('tooLarge');
    }
    this.#upstream.write(chunk);
    this.#spent.add(chunk);
    if (this.#upstream.socket !== null) this.#spent.free(this.#upstream);
    if (this.#upstream.writableLength > AHEAD_BYTES) body.pause();
  }

  #onResponse(response: IncomingMessage): void {
    if (this.#state === 'over') return;
    const isTaken = this.#body === undefined || this.#state === 'taken';
    // Who refuses the second time may have taken the first request, whose connection ended before anybody heard.
    if (response.statusCode !== 200 || !isTaken) return this.#fail(this.#isSecond || isTaken ? 'lost' : 'unreachable');
    const onData = (piece: Buffer): void => {
      try {
        const found = this.#head.push(piece);
        if (found === undefined) return;
        response.off('data', onData);
        response.pause();
        this.#state = 'answered';
        if (this.isSent) this.#body = undefined;
        this.#options.owner.onAnswer(response, found.rest, found.reply);
      } catch {
        this.#fail('lost'); // Nothing a runner of ours says.
      }
    };
    response.on('data', onData);
  }

  /** The connection has ended. A kept one may have ended before the request came; the token tells whether it did. */
  #onGone(upstream: ClientRequest): void {
    if (upstream !== this.#upstream) return;
    if (this.#state === 'asking' && upstream.reusedSocket && !this.#isSecond) {
      this.#isSecond = true;
      this.#upstream = this.#ask(false);
      return;
    }
    this.#fail(this.#state === 'connecting' ? 'unreachable' : 'lost');
  }

  #fail(failure: TransferFailure): void {
    if (this.#state === 'answered' || this.#state === 'over') return;
    this.stop();
    this.#options.owner.onTransferFailure(failure);
  }
}
