import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ErrorCode, ErrorData } from '../core/errors.ts';
import { formatId } from '../core/id.ts';
import { CALL_CONTENT_TYPE, renderCall } from './call-log.ts';
import { addProblem, beginReply, headersByName, writeProblem, writeReply, type HeaderList } from './reply.ts';
import { CallTiming } from './server-timing.ts';

/** The one answer to a request: which call it was and where the time went, whatever else it says. */
export class Answer {
  readonly timing = new CallTiming();
  /** The connection ends with this answer. */
  isLast = false;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #id: Buffer;
  /** The answer is to hold the lines of its call. */
  readonly #hasLog: boolean;
  #callId: string | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, id: Buffer, hasLog: boolean) {
    this.#req = req;
    this.#res = res;
    this.#id = id;
    this.#hasLog = hasLog;
  }

  get callId(): string {
    return (this.#callId ??= formatId(this.#id, 0));
  }

  /**
   * What a func answered.
   * @throws what `writeReply` throws; another answer may then be sent
   */
  reply(status: number, headers: HeaderList, body: Buffer | string, log?: unknown): void {
    if (this.#hasLog) return this.#replyWithLog(status, headers, body, log);
    this.#addOwnHeaders(headers);
    writeReply(this.#req, this.#res, status, headers, body);
  }

  /** What a func answered, but for its body, which follows: `bytes` of it, where that is known. */
  begin(status: number, headers: HeaderList, bytes: number | undefined): void {
    this.#addOwnHeaders(headers);
    beginReply(this.#res, status, headers, bytes);
  }

  fail(code: ErrorCode, message: string, data: ErrorData): void {
    const headers: HeaderList = [];
    if (this.#hasLog) {
      const { log, ...rest } = data;
      const { status, body } = addProblem({ code, message, data: rest }, headers, this.callId);
      return this.#replyWithLog(status, headers, body, log);
    }
    this.#addOwnHeaders(headers);
    writeProblem(this.#req, this.#res, { code, message, data }, headers, this.callId);
  }

  /** The whole answer as JSON beside the lines. Its status stays, unless it is one that has no body. */
  #replyWithLog(status: number, headers: HeaderList, body: Buffer | string, log: unknown): void {
    const text = renderCall(status, headersByName(headers), body, Array.isArray(log) ? log : []);
    const own: HeaderList = ['content-type', CALL_CONTENT_TYPE, 'cache-control', 'no-store'];
    this.#addOwnHeaders(own);
    writeReply(this.#req, this.#res, status === 204 || status === 205 || status === 304 ? 200 : status, own, text);
  }

  #addOwnHeaders(headers: HeaderList): void {
    headers.push('x-funcatron-call-id', this.callId);
    headers.push('server-timing', this.timing.toString());
    if (this.isLast) headers.push('connection', 'close');
  }
}
