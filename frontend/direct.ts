import type { Agent, IncomingMessage, ServerResponse } from 'node:http';
import type { TimerWheel, WheelEntry } from '../core/deadline.ts';
import type { ErrorCode, ErrorData } from '../core/errors.ts';
import { CLAIM_MS, type DirectOffer, readLength, readOffer } from '../core/wire/direct.ts';
import { type Envelope, ReplyFlag } from '../core/wire/envelope.ts';
import { discardBody } from './body.ts';
import { passOn } from './pass-on.ts';
import { Transfer, type TransferFailure, type TransferOwner } from './transfer.ts';
import type { UnreadAnswers } from './unread-answers.ts';

/** How long connecting to a runner may take. */
const CONNECT_MS = 2_000;
/** Whoever listens there and has not answered when the offer is over is no runner, or never will. */
const ASK_MS = CLAIM_MS + 1_000;
/** How much longer than its deadline a call may take that its runner has started: the runner sees to that itself. */
const BACKSTOP_MS = 1_000;
/** For whoever runs the cluster. */
export const UNREACHABLE: ErrorData = {
  hint: 'run `funcatron doctor`; runners say where they are reached with --direct-url',
};

export interface DirectContext {
  readonly transferAgent: Agent;
  readonly deadlines: TimerWheel;
  readonly unread: UnreadAnswers;
  readonly clock: { now(): number };
}

/** The call whose bytes go direct. One of these is called, once, unless the transfer is stopped before. */
export interface DirectOwner {
  /** The whole answer is here. */
  onDirectReply(reply: Envelope): void;
  /** The answer is here but for its body, which `sendBody` sends behind the head. `bytes`: its length, where known. */
  onDirectHead(reply: Envelope, bytes: number | undefined): void;
  /** The runner that listens at `origin` could not be reached, and has not started the call: another one may be asked. */
  onUnreachable(origin: string): void;
  onBodyTooLarge(): void;
  onDirectFailure(code: ErrorCode, message: string, data?: ErrorData): void;
}

/** The bytes of one call on their way to its runner, and back from it. */
export class DirectCall implements TransferOwner, WheelEntry {
  tick = 0;
  readonly #context: DirectContext;
  readonly #owner: DirectOwner;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #deadline: number;
  readonly #offer: DirectOffer;
  /** The func has answered, and its answer is fetched. */
  #isFetching = false;
  #transfer: Transfer | undefined;
  #content: Omit<Parameters<typeof passOn>[0], 'res' | 'unread' | 'onEnd'> | undefined;

  /**
   * @param offer of the runner, from its reply to the call with this id
   * @throws TypeError or SyntaxError when it is none
   */
  constructor(
    context: DirectContext,
    owner: DirectOwner,
    call: {
      readonly req: IncomingMessage;
      readonly res: ServerResponse;
      readonly id: Buffer;
      readonly deadline: number;
    },
    offer: Buffer,
  ) {
    this.#context = context;
    this.#owner = owner;
    this.#req = call.req;
    this.#res = call.res;
    this.#deadline = call.deadline;
    this.#offer = readOffer(offer, call.id);
  }

  /** Where the runner listens. */
  get origin(): string {
    return new URL(this.#offer.url).origin;
  }

  /** The runner wants the body: `bytes`, or what the request brings, up to `maxBytes`. */
  bring(bytes: Buffer | undefined, maxBytes: number): void {
    this.#start(bytes ?? this.#req, maxBytes);
  }

  /** The runner has the answer. */
  fetch(): void {
    this.#isFetching = true;
    this.#start(undefined, Infinity);
  }

  /** Sends the body behind the head that has been written; none where the client expects none. */
  sendBody(): void {
    const {
      req: { method },
      statusCode,
    } = this.#res;
    const hasBody = method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
    if (this.#content !== undefined && hasBody) {
      passOn({ ...this.#content, res: this.#res, unread: this.#context.unread, onEnd: () => this.#onEnd() });
    } else {
      this.#res.end();
      this.#onEnd();
      // Whoever makes the body is told that nobody wants it.
      this.stop();
    }
  }

  /** Nobody waits any more. Does nothing when all has come. */
  stop(): void {
    this.#context.deadlines.remove(this);
    this.#transfer?.stop();
  }

  expire(): void {
    if (this.#context.clock.now() < this.#deadline) return this.#transfer?.giveUp();
    this.#transfer?.stop();
    this.#owner.onDirectFailure('TIMEOUT', 'no answer came before the deadline');
  }

  onConnected(): void {
    this.#waitAtMost(ASK_MS);
  }

  onTaken(): void {
    this.#waitAtMost(Infinity);
    // The client holds its body back until it is told to go on; one that has been read was asked for before.
    if (this.#req.headers.expect !== undefined && !this.#req.complete) this.#res.writeContinue();
  }

  onAnswer(content: IncomingMessage, first: Buffer, reply: Envelope): void {
    this.#context.deadlines.remove(this);
    if ((reply.replyFlags(0) & ReplyFlag.direct) === 0) {
      content.resume();
      return this.#owner.onDirectReply(reply);
    }
    const bytes = readLength(reply.body(0));
    this.#content = { content, first, bytes };
    this.#owner.onDirectHead(reply, bytes);
  }

  onTransferFailure(failure: TransferFailure): void {
    this.#context.deadlines.remove(this);
    if (failure === 'tooLarge') return this.#owner.onBodyTooLarge();
    if (this.#isFetching) {
      const message = 'the func has answered, and the runner that has its answer cannot be reached';
      return this.#owner.onDirectFailure('RUNNER_LOST', message, UNREACHABLE);
    }
    if (failure === 'unreachable') return this.#owner.onUnreachable(this.origin);
    this.#owner.onDirectFailure('RUNNER_LOST', 'the runner was lost while it held the call');
  }

  #start(body: Buffer | IncomingMessage | undefined, maxBytes: number): void {
    const { transferAgent: agent } = this.#context;
    const options = { offer: this.#offer, owner: this, agent, maxBytes };
    this.#transfer = new Transfer(body === undefined ? options : { ...options, body });
    this.#waitAtMost(CONNECT_MS);
  }

  /** For the next step; never long beyond the deadline. */
  #waitAtMost(ms: number): void {
    const { deadlines, clock } = this.#context;
    deadlines.remove(this);
    deadlines.add(this, Math.min(ms, this.#deadline - clock.now() + BACKSTOP_MS));
  }

  /** The answer is complete; a body that nobody reads any more is not. */
  #onEnd(): void {
    if (this.#transfer?.isSent !== false) return;
    this.stop();
    discardBody(this.#req);
  }
}
