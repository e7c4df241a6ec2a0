import type { Agent, IncomingMessage, ServerResponse } from 'node:http';
import type { TimerWheel, WheelEntry } from '../core/deadline.ts';
import type { ErrorCode } from '../core/errors.ts';
import { type DirectOffer, readLength, readOffer } from '../core/wire/direct.ts';
import { Envelope, ReplyFlag } from '../core/wire/envelope.ts';
import { passOn, Transfer, type TransferFailure, type TransferOwner } from './transfer.ts';

/** How much longer than its deadline a call may take whose runner has been reached: it sees to that itself. */
const BACKSTOP_MS = 1_000;

export interface DirectContext {
  readonly transferAgent: Agent;
  readonly deadlines: TimerWheel;
  readonly clock: { now(): number };
}

/** The call whose bytes go direct. One of these is called, once, unless the transfer is stopped before. */
export interface DirectOwner {
  /** The whole answer is here. */
  onDirectReply(reply: Envelope): void;
  /** The answer is here but for its body, which `sendBody` sends behind the head. `bytes`: its length, where known. */
  onDirectHead(reply: Envelope, bytes: number | undefined): void;
  /** The runner was not there, and nothing has reached it: another one may be asked. */
  onUnreachable(): void;
  onBodyTooLarge(): void;
  onDirectFailure(code: ErrorCode, message: string): void;
}

/** The bytes of one call on their way to its runner, and back from it. */
export class DirectCall implements TransferOwner, WheelEntry {
  tick = 0;
  readonly #context: DirectContext;
  readonly #owner: DirectOwner;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  #transfer: Transfer | undefined;
  /** The answer, where only its body is fetched. */
  #reply: Envelope | undefined;
  #content: { readonly stream: IncomingMessage; readonly first: Buffer } | undefined;

  constructor(context: DirectContext, owner: DirectOwner, req: IncomingMessage, res: ServerResponse) {
    this.#context = context;
    this.#owner = owner;
    this.#req = req;
    this.#res = res;
  }

  /** A runner wants the body: `bytes`, or what the request brings, up to `maxBytes`. @throws TypeError for an offer that is none */
  bring(offer: Buffer, bytes: Buffer | undefined, maxBytes: number, deadline: number): void {
    this.#start(readOffer(offer), bytes ?? this.#req, maxBytes, deadline);
  }

  /** A runner has the body of record `index`. @throws TypeError for an offer that is none */
  fetch(answers: Envelope, index: number, deadline: number): void {
    // The message it came in is not kept for as long as the body takes.
    this.#reply = new Envelope(answers.pick([index]));
    const offer = readOffer(this.#reply.body(0));
    // Nobody reads that body: the runner lets go of it when nobody comes.
    if (this.#req.method === 'HEAD') this.#owner.onDirectHead(this.#reply, offer.bytes);
    else this.#start(offer, undefined, Infinity, deadline);
  }

  /** Sends the body, behind the head that has been written. */
  sendBody(): void {
    if (this.#content === undefined || this.#req.method === 'HEAD') {
      this.#res.end();
      this.stop();
    } else passOn(this.#content.stream, this.#content.first, this.#res);
  }

  /** Nobody waits any more. Does nothing when all has come. */
  stop(): void {
    this.#context.deadlines.remove(this);
    this.#transfer?.stop();
  }

  /** The runner did not see to the deadline. */
  expire(): void {
    this.#transfer?.stop();
    this.#owner.onDirectFailure('TIMEOUT', 'no answer came before the deadline');
  }

  onConnected(): void {
    // The client holds its body back until it is told to go on.
    if (this.#req.headers.expect !== undefined) this.#res.writeContinue();
  }

  onAnswer(content: IncomingMessage, first: Buffer, brought: Envelope | undefined): void {
    this.#context.deadlines.remove(this);
    const reply = brought ?? this.#reply;
    if (reply === undefined) return this.stop();
    if ((reply.replyFlags(0) & ReplyFlag.direct) === 0) {
      content.resume();
      return this.#owner.onDirectReply(reply);
    }
    this.#content = { stream: content, first };
    // Brought: the length stands in the place of the body. Fetched: the offer does, and says it.
    const bytes = brought === undefined ? readOffer(reply.body(0)).bytes : readLength(reply.body(0));
    this.#owner.onDirectHead(reply, bytes);
  }

  onTransferFailure(failure: TransferFailure): void {
    this.#context.deadlines.remove(this);
    if (failure === 'tooLarge') this.#owner.onBodyTooLarge();
    else if (this.#reply !== undefined)
      this.#owner.onDirectFailure('RUNNER_LOST', 'the runner was lost with the body of its answer');
    else if (failure === 'lost')
      this.#owner.onDirectFailure('RUNNER_LOST', 'the runner was lost while it held the call');
    else this.#owner.onUnreachable();
  }

  #start(offer: DirectOffer, body: Buffer | IncomingMessage | undefined, maxBytes: number, deadline: number): void {
    const { transferAgent: agent, deadlines, clock } = this.#context;
    this.#transfer = new Transfer({ offer, owner: this, agent, maxBytes, ...(body === undefined ? {} : { body }) });
    deadlines.add(this, deadline - clock.now() + BACKSTOP_MS);
  }
}
