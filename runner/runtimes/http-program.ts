import type { ChildProcess } from 'node:child_process';
import { REPLY_BYTES } from '../isolate/bridge.ts';
import { requestHead } from './http-request.ts';
import { isBlank, ResponseProblem, ResponseReader } from './http-response.ts';
import { type Driver, methodOf, type ProgramCall, type ProgramFailure, type ProgramReply } from './program-call.ts';
import { endOf, killProgram } from './program.ts';
import type { StderrTail } from './stderr-tail.ts';

const LIMITS = { headBytes: 32 * 1024, headers: 200, bodyBytes: REPLY_BYTES };

/** Shorter bodies are copied behind their head: one plain write costs less than a gathered one. */
const SMALL_BYTES = 4 * 1024;
/** How soon a program is expected to exit once its stdout has ended. */
const EXIT_MS = 250;
/** So much of what it should not have written is for the log. */
const SHOWN_BYTES = 80;

interface Turn {
  readonly call: ProgramCall;
  resolve(outcome: ProgramReply | ProgramFailure): void;
}

/**
 * A program that answers HTTP requests on its stdin with HTTP responses on its stdout, one at a time: the next request
 * is written when the response before it is whole. One that writes anything else is killed, because nobody can tell
 * any more which of its bytes answer what.
 *
 * States: idle ⇄ busy (a request is out) → ended.
 */
export class HttpProgram implements Driver {
  readonly pid: number;
  /** What it wrote to stderr last. */
  readonly stderr: StderrTail;
  readonly ended: Driver['ended'];
  readonly #child: ChildProcess;
  readonly #waiting: Turn[] = [];
  #current: Turn | undefined;
  #reader: ResponseReader | undefined;
  /** Why it is about to end, when that is known before it does; the first reason counts. */
  #reason: Awaited<Driver['ended']> | undefined;

  constructor(child: ChildProcess, stderr: StderrTail) {
    this.#child = child;
    this.stderr = stderr;
    this.pid = child.pid ?? -1;
    child.stdout?.on('data', (chunk: Buffer) => this.#receive(chunk));
    child.stdout?.on('end', () => this.#expectExit());
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve({ reason: 'crashed', detail: error.message }));
      // Not 'exit': what it wrote before is read first.
      child.once('close', (code, signal) => {
        const detail = [endOf(code, signal), stderr.lastLine()].filter(Boolean).join(': ');
        resolve(this.#reason ?? { reason: 'crashed', detail });
      });
    });
  }

  /** Whether it was killed for what it did, or did not do, with a call; that call has been answered. */
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

  /** The program has no way to hear of it. One that is overdue would go on with a call that was answered, so it is killed. */
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
    const timer = setTimeout(() => killProgram(this.#child), ms);
    await this.ended;
    clearTimeout(timer);
  }

  kill(detail: string): void {
    this.#end('killed', detail);
  }

  #next(): void {
    if (this.#current !== undefined || this.#reason !== undefined) return;
    this.#current = this.#waiting.shift();
    const { stdin } = this.#child;
    if (this.#current === undefined || stdin === null) return;
    const { call } = this.#current;
    this.#reader = new ResponseReader(methodOf(call.meta), LIMITS);
    const head = requestHead(call);
    if (call.body.length <= SMALL_BYTES) {
      stdin.write(call.body.length === 0 ? head : Buffer.concat([head, call.body]));
      return;
    }
    stdin.cork();
    stdin.write(head);
    stdin.write(call.body);
    stdin.uncork();
  }

  #receive(chunk: Buffer): void {
    if (this.#reader === undefined) {
      if (isBlank(chunk)) return;
      this.isSpoiled = true;
      this.#end(
        'crashed',
        `it wrote to stdout without being asked: ${JSON.stringify(chunk.toString('latin1', 0, SHOWN_BYTES))}`,
      );
      return;
    }
    try {
      const reply = this.#reader.push(chunk);
      if (reply !== undefined) this.#settle(reply);
    } catch (thrown) {
      if (!(thrown instanceof ResponseProblem)) throw thrown;
      // First, so that the next call is not written to it.
      this.isSpoiled = true;
      this.#end('crashed', thrown.message);
      const { code, message } = thrown;
      this.#settle({
        code,
        message: code === 'RESPONSE_TOO_LARGE' ? message : 'what the program wrote is no HTTP response',
      });
    }
  }

  #settle(outcome: ProgramReply | ProgramFailure): void {
    const turn = this.#current;
    this.#current = undefined;
    this.#reader = undefined;
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
    this.isSpoiled = this.#current !== undefined;
    this.#end('crashed', 'it closed its stdout');
    this.#settle({ code: 'FUNC_CRASHED', message: 'the program closed its stdout' });
  }

  #end(reason: 'killed' | 'crashed', detail: string): void {
    this.#reason ??= { reason, detail };
    killProgram(this.#child);
  }
}
