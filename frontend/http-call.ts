import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RpcCall, RpcCaller, RpcFailure } from '../core/broker/batch.ts';
import type { WheelEntry } from '../core/deadline.ts';
import { ERRORS, type ErrorCode, type ErrorData, type Problem } from '../core/errors.ts';
import { ID_BYTES, writeId } from '../core/id.ts';
import { CallFlag, type Envelope, ReplyFlag } from '../core/wire/envelope.ts';
import type { Waiter } from './admission.ts';
import { Answer } from './answer.ts';
import { allowTime, declaredBytes, discardBody, readBody, type BodyReader, keepUntilRead } from './body.ts';
import type { CallLogWish } from './call-log.ts';
import { DirectCall, UNREACHABLE, type DirectOwner } from './direct.ts';
import type { HttpCallContext } from './http-call-context.ts';
import { encodeMeta } from './meta.ts';
import { headersByName, readHead, readReply, type FuncReply } from './reply.ts';
import type { Operation, Revision } from './revision.ts';
import { paramsOf, refusalOf, type RouteOption } from './route-table.ts';
import { splitTarget } from './request-target.ts';

const EMPTY = Buffer.alloc(0);
const SOON: ErrorData = { retryAfterS: 1 };
/** Runners that are asked, one after the other, where the queue gives a call again to one that cannot be reached. */
const MAX_ASKS = 8;
/** What metrics count a call as whose client went away before its answer. */
const CLIENT_CLOSED = 499;

/**
 * One call on its way: route → body → validation → broker → runner → answer.
 * Every way it can end is a `#fail`, a reply or a hang-up below, and all of them go through `#end`, once.
 */
export class HttpCall implements RpcCaller, BodyReader, Waiter, DirectOwner {
  tick = 0;
  readonly #context: HttpCallContext;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #id = Buffer.allocUnsafe(ID_BYTES);
  readonly #answer: Answer;
  readonly #log: CallLogWish | undefined;
  #deadline = 0;
  #waitsUntil = 0;
  #host: string | undefined;
  #path = '';
  #query = '';
  #body: Buffer = EMPTY;
  #route: RouteOption | undefined;
  #params: Readonly<Record<string, string>> = {};
  /** Whom admission counts this call for. */
  #admitted: Revision | undefined;
  /** Bytes of its body admission counts, and then of an answer the client has not read yet. */
  #heldBytes = 0;
  #unread: WheelEntry | undefined;
  #rpcCall: RpcCall | undefined;
  #wasReturned = false;
  /** The body stays in the request until a runner takes it. */
  #isStreaming = false;
  #direct: DirectCall | undefined;
  /** Where the first runner listens that took the call and could not be reached, and how many took it. */
  #unreachable: string | undefined;
  #asks = 0;
  #hasEnded = false;

  constructor(context: HttpCallContext, req: IncomingMessage, res: ServerResponse, log: CallLogWish | undefined) {
    this.#context = context;
    this.#req = req;
    this.#res = res;
    writeId(this.#id, 0);
    this.#log = log;
    this.#answer = new Answer(req, res, this.#id, log?.isReturned === true);
  }

  start(): void {
    if (this.#context.isDraining) return this.#fail('SHUTTING_DOWN', 'this frontend is shutting down', SOON);
    const req = this.#req;
    // It holds its body back until it is told to go on; answered otherwise, it may send it or not. RFC 9110 §10.1.1.
    const asksFirst = req.headers.expect !== undefined;
    this.#answer.isLast = asksFirst;
    const target = splitTarget(req.url ?? '/');
    this.#path = target.path;
    this.#query = target.query;
    this.#host = target.host ?? req.headers.host;
    if (!this.#findRoute()) return;
    const bytes = declaredBytes(req);
    if (bytes === 0) return this.#dispatch();
    const { admission } = this.#context;
    const revision = this.#route?.operation.revision;
    if (revision !== undefined && !admission.hasRoom(revision)) return this.#failOverloaded(revision);
    const maxBytes = this.#maxBytes;
    const isTaken = bytes <= maxBytes || bytes === Infinity;
    if (isTaken && this.#route?.operation.spec.direct === true) {
      this.#isStreaming = true;
      allowTime(req);
      return this.#dispatch();
    }
    if (asksFirst && isTaken) {
      this.#answer.isLast = false;
      this.#res.writeContinue();
    }
    readBody(req, maxBytes, this);
  }

  get #maxBytes(): number {
    const { direct, maxBodyBytes } = this.#route?.operation.spec ?? {};
    return maxBodyBytes ?? (direct === true ? Infinity : this.#context.maxBodyBytes);
  }

  onBody(body: Buffer): void {
    this.#body = body;
    this.#dispatch();
  }

  onBodyBytes(bytes: number): boolean {
    if (this.#hasEnded) return false;
    if (this.#context.admission.admitBytes(bytes)) {
      this.#heldBytes += bytes;
      return true;
    }
    this.#fail('OVERLOADED', 'too many bytes of bodies and answers are in flight', SOON);
    return false;
  }

  onBodyTooLarge(): void {
    this.#fail('PAYLOAD_TOO_LARGE', `the body is longer than ${this.#maxBytes} bytes`);
  }

  /** False: there is none, and the client was told. */
  #findRoute(): boolean {
    const { routes } = this.#context;
    const method = this.#req.method ?? 'GET';
    if (routes.table === undefined) {
      this.#fail('NO_LEADER', 'no route table has arrived yet', SOON);
      return false;
    }
    const match = routes.table.router.match(this.#host, method, this.#path);
    switch (match.kind) {
      case 'found':
        this.#route = match.value.choose();
        this.#params = paramsOf(this.#route, match.params);
        return true;
      case 'options':
        this.#answer.reply(204, ['allow', match.allow.join(', ')], EMPTY);
        this.#end(204);
        return false;
      default: {
        const { code, message, data } = refusalOf(match, method, this.#path);
        this.#fail(code, message, data);
        return false;
      }
    }
  }

  #admit(revision: Revision): boolean {
    if (revision === this.#admitted) return true;
    this.#release();
    if (this.#context.admission.admit(revision)) {
      this.#admitted = revision;
      return true;
    }
    this.#failOverloaded(revision);
    return false;
  }

  #failOverloaded(revision: Revision): void {
    this.#fail('OVERLOADED', `too many calls of ${revision.key} are in flight`, SOON);
  }

  #dispatch(): void {
    const operation = this.#route?.operation;
    if (operation === undefined || this.#hasEnded) return;
    try {
      if (this.#admit(operation.revision)) this.#send(operation);
    } catch (error) {
      this.onDefect(error);
    }
  }

  #send(operation: Operation): void {
    const { rpc, validators, clock, callTimeoutMs } = this.#context;
    const input = validators.of(operation).read({
      params: this.#params,
      queryString: this.#query,
      // Names in lower case. Only `set-cookie`, which no request has, would be a list.
      headers: this.#req.headers as Readonly<Record<string, string>>,
      body: this.#body,
      isStreaming: this.#isStreaming,
    });
    if (!input.ok) {
      const { operationId } = operation.spec;
      return this.#fail(input.code, `the request does not match operation ${operationId}`, {
        problems: input.problems,
      });
    }
    if (!rpc.isReady) return this.#fail('BROKER_DOWN', 'the message broker cannot be reached', SOON);
    if (this.#deadline === 0) this.#deadline = clock.now() + (operation.spec.timeoutMs || callTimeoutMs);
    if (operation.revision.ready === 0) return this.#waitForRunner(operation.revision);
    this.#answer.timing.sentAt = performance.now();
    const isDirect = this.#isStreaming || this.#body.length > this.#context.directBytes;
    this.#rpcCall = rpc.call(
      operation.revision.target,
      {
        id: this.#id,
        deadline: this.#deadline,
        operation: operation.index,
        flags:
          operation.callFlags |
          CallFlag.fetches |
          (isDirect ? CallFlag.direct : 0) |
          (input.isText ? CallFlag.text : 0) |
          (this.#log === undefined ? 0 : CallFlag.log),
        meta: encodeMeta(this.#req, this.#path, input, this.#answer.callId, clock.now(), this.#log),
        body: isDirect ? undefined : this.#body,
      },
      this,
    );
  }

  #waitForRunner({ key, retryAt }: Revision): void {
    const quarantineMs = retryAt - this.#context.clock.now();
    if (quarantineMs > this.#context.noRunnerMs) {
      const retryAfterS = Math.ceil(quarantineMs / 1000);
      const message = `${key} fails on every runner; the next try is in ${retryAfterS} s`;
      return this.#fail('NO_RUNNER', message, { retryAfterS });
    }
    const now = performance.now();
    if (this.#waitsUntil === 0) this.#waitsUntil = now + this.#context.noRunnerMs;
    if (now >= this.#waitsUntil) this.expire();
    else this.#context.waitingRoom.enter(this, this.#waitsUntil - now);
  }

  onRoutesChanged(): void {
    if (this.#findRoute()) this.#dispatch();
  }

  /** The time to wait for a runner is over. */
  expire(): void {
    this.#fail('NO_RUNNER', `no runner holds ${this.#admitted?.key}`, SOON);
  }

  onReply(envelope: Envelope, index: number): void {
    const operation = this.#route?.operation;
    if (operation === undefined) return;
    try {
      const flags = envelope.replyFlags(index);
      if ((flags & (ReplyFlag.accepted | ReplyFlag.direct)) !== 0) return this.#goDirect(envelope, index);
      this.#answer.timing.read(envelope, index, this.#context);
      const reply = readReply(envelope, index);
      if (reply.kind === 'failed') return this.#fail(reply.code, reply.message, reply.data);
      const problems = this.#check(operation, reply);
      if (problems.length > 0) return this.#refuseReply(operation, { problems });
      this.#concludeConnection();
      this.#answer.reply(reply.status, reply.headers, reply.body, reply.log);
      this.#end(reply.status);
      this.#dropBody();
      this.#holdUnread(reply.body.length);
    } catch (error) {
      this.#refuseReply(operation, { err: error });
    }
  }

  /** The runner that has the call takes its body, or gives its answer, without the queue. */
  #goDirect(envelope: Envelope, index: number): void {
    this.#rpcCall = undefined;
    const call = { req: this.#req, res: this.#res, id: this.#id, deadline: this.#deadline };
    const direct = new DirectCall(this.#context, this, call, envelope.body(index));
    this.#direct = direct;
    if ((envelope.replyFlags(index) & ReplyFlag.direct) !== 0) return direct.fetch();
    if (++this.#asks < MAX_ASKS && direct.origin === this.#unreachable) return this.onRoutesChanged();
    direct.bring(this.#isStreaming ? undefined : this.#body, this.#maxBytes);
  }

  onDirectReply(reply: Envelope): void {
    this.onReply(reply, 0);
  }

  onDirectHead(reply: Envelope, bytes: number | undefined): void {
    const operation = this.#route?.operation;
    if (operation === undefined || this.#hasEnded) return this.#direct?.stop();
    try {
      const { status, headers } = readHead(reply, 0);
      this.#concludeConnection();
      this.#answer.timing.read(reply, 0, this.#context);
      this.#answer.begin(status, headers, status === 204 || status === 304 ? undefined : bytes);
      this.#end(status);
      this.#direct?.sendBody();
    } catch (error) {
      this.#direct?.stop();
      this.#refuseReply(operation, { err: error });
    }
  }

  onUnreachable(origin: string): void {
    if (this.#unreachable === undefined) {
      this.#unreachable = origin;
      return this.onRoutesChanged();
    }
    const { key } = this.#route?.operation.revision ?? {};
    this.#fail('RUNNER_UNREACHABLE', `no runner of ${key} could be reached from this frontend`, UNREACHABLE);
  }

  onDirectFailure(code: ErrorCode, message: string, data?: ErrorData): void {
    this.#fail(code, message, data);
  }

  onFailure(failure: RpcFailure): void {
    switch (failure) {
      case 'timeout':
        return this.#fail('TIMEOUT', 'no answer came before the deadline');
      case 'refused':
        return this.#fail('OVERLOADED', `the queue of ${this.#admitted?.key} is full`, SOON);
      case 'down':
        return this.#fail('BROKER_DOWN', 'the message broker cannot be reached', SOON);
      case 'unknown':
        return this.#fail('OUTCOME_UNKNOWN', 'the message broker lost the call or its reply; it may have run');
      case 'returned':
        if (this.#wasReturned) return this.expire();
        this.#wasReturned = true;
        return this.onRoutesChanged();
    }
  }

  /** The answer is on its way for good, or the connection ended. Before the answer: nobody waits for this call any more. */
  onClose(): void {
    this.#direct?.stop();
    if (this.#hasEnded) return this.#releaseBytes();
    if (this.#rpcCall !== undefined) this.#context.rpc.cancel(this.#rpcCall);
    this.#end(CLIENT_CLOSED);
  }

  /** Something in here threw: this call fails, the others go on. */
  onDefect(error: unknown): void {
    this.#context.log.error({ err: error, callId: this.#answer.callId, path: this.#path }, 'a call met a defect');
    if (!this.#hasEnded) this.#fail('INTERNAL', 'a defect in the frontend');
  }

  #check(operation: Operation, { status, headers, body }: FuncReply): readonly Problem[] {
    if (!operation.spec.validateResponses || this.#req.method === 'HEAD') return [];
    const { checkResponse } = this.#context.validators.of(operation);
    return checkResponse(status, headersByName(headers), body);
  }

  /** What is wrong with it is for the bundle's author, not for the client. */
  #refuseReply(operation: Operation, why: object): void {
    const { operationId } = operation.spec;
    const { callId } = this.#answer;
    this.#context.log.warn({ ...why, callId, revision: operation.revision.key, operationId }, 'a func answered badly');
    this.#fail('INVALID_RESPONSE', `the answer of func ${operationId} cannot be sent or does not match its document`);
  }

  #fail(code: ErrorCode, message: string, data: ErrorData = {}): void {
    this.#concludeConnection();
    this.#answer.fail(code, message, data);
    this.#end(ERRORS[code].status);
    this.#dropBody();
  }

  /**
   * Decides, just before the answer, whether its connection ends with it: when it is draining, and when the client was not
   * told to send its body, which it may or may not do. Where it does send it, the connection is kept until enough of that
   * has been thrown away for the client to read the answer: ended at once, with bytes unread, it would be reset.
   */
  #concludeConnection(): void {
    const isUnread = !this.#req.complete && declaredBytes(this.#req) > 0;
    this.#answer.isLast = this.#context.isDraining || (isUnread && this.#answer.isLast);
    if (isUnread && !this.#answer.isLast) keepUntilRead(this.#req, this.#res);
  }

  /** Nobody reads what is left of it. */
  #dropBody(): void {
    if (!this.#isStreaming || this.#req.readableEnded) return;
    this.#direct?.stop();
    discardBody(this.#req);
  }

  #end(status: number): void {
    this.#hasEnded = true;
    this.#body = EMPTY;
    if (this.#waitsUntil !== 0) this.#context.waitingRoom.leave(this);
    this.#release();
    this.#releaseBytes();
    this.#context.metrics.observe(this.#route?.operation, status, this.#answer.timing);
  }

  #release(): void {
    if (this.#admitted !== undefined) this.#context.admission.release(this.#admitted);
    this.#admitted = undefined;
  }

  /** What the kernel did not take at once stays here until the client reads it. */
  #holdUnread(bytes: number): void {
    if (this.#res.writableLength === 0 || this.#res.destroyed) return;
    this.#heldBytes = bytes;
    this.#context.admission.holdBytes(bytes);
    this.#unread = this.#context.unread.add(this.#res);
  }

  #releaseBytes(): void {
    if (this.#unread !== undefined) this.#context.unread.remove(this.#unread);
    this.#context.admission.releaseBytes(this.#heldBytes);
    this.#heldBytes = 0;
  }
}
