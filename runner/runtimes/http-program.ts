import type { ChildProcess } from 'node:child_process';
import { REPLY_BYTES, STREAM_FRAME_BYTES } from '../isolate/bridge.ts';
import { AnswerBody, type AnswerSource } from './answer-body.ts';
import type { CallBody } from './call-body.ts';
import { type BodyOwner, BodyWriter, requestBytes, requestHead } from './http-request.ts';
import { isBlank, ResponseProblem, ResponseReader, type WholeResponse } from './http-response.ts';
import { type Driver, methodOf, type ProgramCall, type ProgramFailure, type ProgramReply } from './program-call.ts';
import { endOf, killProgram } from './program.ts';
import type { StderrTail } from './stderr-tail.ts';

const WHOLE = { headBytes: 32 * 1024, headers: 200, bodyBytes: REPLY_BYTES };
const STREAMED = { ...WHOLE, bodyBytes: Infinity };

/** Shorter bodies are copied behind their head: one plain write costs less than a gathered one. */
const SMALL_BYTES = 4 * 1024;
/** How soon a program is expected to exit once its stdout, or its stdin, has ended. */
const EXIT_MS = 250;
/** How long a program may go on with an answer whose client has hung up: one that ends meanwhile need not be replaced. */
const UNWANTED_MS = 1_000;
/** So much of what it should not have written is for the log. */
const SHOWN_BYTES = 80;

interface Turn {
  readonly call: ProgramCall;
  resolve(outcome: ProgramReply | ProgramFailure): void;
}

/**
 * A program that answers HTTP requests on its stdin with HTTP responses on its stdout, one at a time: the next request
 * is written when the response before it is whole. One that writes anything else is killed, because nobody can tell
 * any more which of its bytes answer what; one that was given a part of a request, because nobody can take that back.
 *
 * States: idle ⇄ busy (a request is out, or on its way) → ended.
 */
export class HttpProgram implements Driver, AnswerSource, BodyOwner {
  readonly pid: number;
  /** What it wrote to stderr last. */
  readonly stderr: StderrTail;
  readonly ended: Driver['ended'];
  readonly #child: ChildProcess;
  readonly #directBytes: number;
  readonly #waiting: Turn[] = [];
  #current: Turn | undefined;
  #reader: ResponseReader | undefined;
  /** Where the body of the response goes as it comes. */
  #answer: AnswerBody | undefined;
  /** The body of the request, until all of it is written. */
  #body: CallBody | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Why it is about to end, when that is known before it does; the first reason counts. */
  #reason: Awaited<Driver['ended']> | undefined;

  /** @param directBytes from this length on the body of an answer leaves as it comes, where whoever waits can take it so */
  constructor(child: ChildProcess, stderr: StderrTail, directBytes = STREAM_FRAME_BYTES) {
    this.#child = child;
    this.#directBytes = directBytes;
    this.stderr = stderr;
    this.pid = child.pid ?? -1;
    child.stdin?.on('drain', () => this.#body?.resume());
    child.stdout?.on('data', (chunk: Buffer) => this.#receive(chunk));
    child.stdout?.on('end', () => this.#expectExit());
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve({ reason: 'crashed', detail: error.message }));
      // Not 'exit': what it wrote before is read first.
      child.once('close', (code, signal) => {
        clearTimeout(this.#timer);
        const how = endOf(code, signal);
        this.#exited(code === 0, how);
        const detail = [how, stderr.lastLine()].filter(Boolean).join(': ');
        resolve(this.#reason ?? { reason: 'crashed', detail });
      });
    });
  }

  /**
   * Whether another one takes its place: it was ended for what it did, or did not do, with a call, or said that it ends
   * with its answer; that call has been answered.
   */
  isSpoiled = false;

  /** Takes the calls that were waiting for another program. */
  takeOver(other: HttpProgram): void {
    this.#waiting.push(...other.#waiting.splice(0));
    this.#next();
  }

  /** The call it works on, if any. */
  get current(): ProgramCall | undefined {
    return this.#current?.call;
  }

  get backlogBytes(): number {
    return this.#child.stdin?.writableLength ?? 0;
  }

  run(call: ProgramCall): Promise<ProgramReply | ProgramFailure> {
    return new Promise((resolve) => {
      this.#waiting.push({ call, resolve });
      this.#next();
    });
  }

  /**
   * The program has no way to hear of a call that is cancelled; one whose body breaks off is told by that. One that is
   * overdue would go on with a call that was answered, so it is killed.
   */
  abandon(call: ProgramCall, why: 'cancelled' | 'overdue'): void {
    if (why === 'cancelled') return;
    if (this.#current?.call === call) {
      this.isSpoiled = true;
      this.#end('killed', 'it did not answer a call before its deadline');
      return;
    }
    const at = this.#waiting.findIndex((turn) => turn.call === call);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  async close(ms: number): Promise<void> {
    this.#reason ??= { reason: 'closed', detail: 'it was closed' };
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.kill('it was closed'), ms);
    await this.ended;
    clearTimeout(timer);
  }

  kill(detail: string): void {
    this.#end('killed', detail);
  }

  /** The body of the request is on its way to the program. */
  onWritten(): void {
    this.#body = undefined;
  }

  /** The client has hung up, or sent what it had not declared. The program sees its stdin end inside the request. */
  onBroken(why: string): void {
    this.#body = undefined;
    this.#replace('the client did not send a whole request');
    this.#fail({ code: 'FUNC_ERROR', message: `the body of the call broke off: ${why}` });
  }

  onRoom(): void {
    this.#child.stdout?.resume();
  }

  /** The client has hung up. What the program still writes is read, and dropped. */
  onUnwanted(): void {
    this.#child.stdout?.resume();
    this.#timer = setTimeout(() => {
      this.isSpoiled = true;
      this.#end('killed', 'it went on with an answer that nobody waited for');
    }, UNWANTED_MS);
  }

  #next(): void {
    if (this.#current !== undefined || this.#reason !== undefined) return;
    this.#current = this.#takeWaiting();
    const { stdin } = this.#child;
    if (this.#current === undefined || stdin === null) return;
    const { call } = this.#current;
    this.#reader = new ResponseReader(methodOf(call.meta), call.streams === undefined ? WHOLE : STREAMED);
    const head = requestHead(call);
    const { body } = call;
    if (!Buffer.isBuffer(body)) {
      stdin.write(head);
      this.#body = body;
      return body.read(new BodyWriter(stdin, requestBytes(call), this));
    }
    if (body.length <= SMALL_BYTES) {
      stdin.write(body.length === 0 ? head : Buffer.concat([head, body]));
      return;
    }
    stdin.cork();
    stdin.write(head);
    stdin.write(body);
    stdin.uncork();
  }

  /** The next call that can be given to a program; those whose clients hung up while they waited are over. */
  #takeWaiting(): Turn | undefined {
    for (let turn = this.#waiting.shift(); turn !== undefined; turn = this.#waiting.shift()) {
      const { body } = turn.call;
      if (Buffer.isBuffer(body) || !body.isBroken) return turn;
      turn.resolve({ code: 'FUNC_ERROR', message: 'the body of the call broke off before the program was given it' });
    }
    return undefined;
  }

  #receive(chunk: Buffer): void {
    const reader = this.#reader;
    if (reader === undefined) {
      if (isBlank(chunk)) return;
      this.isSpoiled = true;
      this.#end(
        'crashed',
        `it wrote to stdout without being asked: ${JSON.stringify(chunk.toString('latin1', 0, SHOWN_BYTES))}`,
      );
      return;
    }
    try {
      const response = reader.push(chunk);
      if (response === undefined) this.#passOn(reader);
      else this.#finish(response);
    } catch (thrown) {
      if (!(thrown instanceof ResponseProblem)) throw thrown;
      // First, so that the next call is not written to it.
      this.isSpoiled = true;
      this.#end('crashed', thrown.message);
      const { code, message } = thrown;
      this.#fail({
        code,
        message: code === 'RESPONSE_TOO_LARGE' ? message : 'what the program wrote is no HTTP response',
      });
    }
  }

  /** A body that is long, or of unknown length, leaves as it comes. */
  #passOn({ head }: ResponseReader): void {
    const turn = this.#current;
    if (this.#answer === undefined && head !== undefined && turn?.call.streams !== undefined) {
      const { status, headers, bytes } = head;
      if (bytes !== undefined && bytes <= this.#directBytes) return;
      const answer = new AnswerBody(bytes, this);
      this.#answer = answer;
      this.#reader?.passTo((piece) => answer.write(piece));
      turn.resolve({ status, headers, body: answer });
    }
    if (this.#answer?.hasRoom === false) this.#child.stdout?.pause();
  }

  #finish({ status, headers, body, trailers }: WholeResponse): void {
    let answer = this.#answer;
    // They travel behind a stream alone.
    if (trailers !== undefined && this.#current?.call.streams !== undefined) answer ??= new AnswerBody(undefined);
    answer?.write(body);
    answer?.end(trailers === undefined ? '' : JSON.stringify(trailers));
    this.#settle({ status, headers, body: answer ?? body });
  }

  /** The answer that has begun breaks off; one that has not is the failure. */
  #fail(failure: ProgramFailure): void {
    this.#answer?.break(failure.message);
    this.#settle(failure);
  }

  /** The outcome of the call, unless that was known when its body began. */
  #settle(outcome: ProgramReply | ProgramFailure): void {
    const turn = this.#current;
    const body = this.#body;
    clearTimeout(this.#timer);
    this.#current = undefined;
    this.#reader = undefined;
    this.#answer = undefined;
    this.#body = undefined;
    if (body !== undefined) {
      body.cancel();
      this.#replace('it answered a request before it had all of it');
    }
    turn?.resolve(outcome);
    this.#next();
  }

  /** The end of its stdout mostly is its own end, which says more. */
  #expectExit(): void {
    const timer = setTimeout(() => this.#closed(), EXIT_MS);
    void this.ended.then(() => clearTimeout(timer));
  }

  /** Nothing it does can be heard any more. One that had no call to do it for would do it again, so it is not replaced here. */
  #closed(): void {
    this.isSpoiled ||= this.#current !== undefined;
    this.#end('crashed', 'it closed its stdout');
    if (this.#reader?.endsWithOutput === true) this.#finish(this.#reader.close());
    else this.#fail({ code: 'FUNC_CRASHED', message: 'the program closed its stdout' });
  }

  /** It is gone. A call that has no answer yet is answered by the end of the worker. */
  #exited(isSuccess: boolean, how: string): void {
    if (this.#reader?.endsWithOutput === true && isSuccess) {
      this.#reason ??= { reason: 'closed', detail: 'it ended with its answer' };
      this.isSpoiled = true;
      this.#finish(this.#reader.close());
    } else this.#answer?.break(`the program ended inside its answer: ${how}`);
  }

  /** Another program takes the calls that wait; this one may end by itself, as its stdin does. */
  #replace(detail: string): void {
    this.isSpoiled = true;
    this.#reason ??= { reason: 'killed', detail };
    this.#child.stdin?.end();
    const timer = setTimeout(() => killProgram(this.#child), EXIT_MS);
    void this.ended.then(() => clearTimeout(timer));
  }

  #end(reason: 'killed' | 'crashed', detail: string): void {
    this.#reason ??= { reason, detail };
    killProgram(this.#child);
    this.#answer?.break(detail);
    // Its end is heard of when all it wrote has been read.
    this.#child.stdout?.resume();
  }
}
