import type { ChildProcess } from 'node:child_process';
import { isUtf8 } from 'node:buffer';
import { REPLY_BYTES } from '../isolate/bridge.ts';
import { AnswerBody, type AnswerSource } from './answer-body.ts';
import type { ProgramCall, ProgramFailure, ProgramReply } from './program-call.ts';
import { endOf, killProgram } from './program.ts';

/**
 * What a program that runs for one call writes, as the answer: whole, when its exit code says that it went well, up to what
 * a queue carries; beyond that, or from its first byte on where the operation is direct, as it comes. What has left cannot be
 * taken back: then another exit code breaks the answer off.
 */
export class CallOutput implements AnswerSource {
  /** Settles when the answer is there, or begins. */
  readonly outcome: Promise<ProgramReply | ProgramFailure>;
  /** Settles when the program is gone. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #streams: ProgramCall['streams'];
  #parts: Buffer[] = [];
  #bytes = 0;
  #answer: AnswerBody | undefined;
  #resolve: (outcome: ProgramReply | ProgramFailure) => void = () => undefined;

  /** @param onFailure hears how a program failed whose answer somebody waits for */
  constructor(child: ChildProcess, streams: ProgramCall['streams'], onFailure: (detail: string) => void) {
    this.#child = child;
    this.#streams = streams;
    child.stdout?.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.outcome = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.ended = new Promise((resolve) => {
      const end = (detail: string | undefined): void => {
        this.#end(detail, onFailure);
        resolve();
      };
      child.once('error', (error) => end(`it cannot be started: ${error.message}`));
      // Not 'exit': what it wrote before is read first.
      child.once('close', (code, signal) => end(code === 0 ? undefined : endOf(code, signal)));
    });
  }

  onRoom(): void {
    this.#child.stdout?.resume();
  }

  onUnwanted(): void {
    this.kill();
  }

  /** Nothing it writes from now on is of use to anybody. */
  kill(): void {
    killProgram(this.#child);
    this.#answer?.break('the program was killed');
    // Its end is heard of when all it wrote has been read.
    this.#child.stdout?.resume();
  }

  #receive(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#answer === undefined && this.#isWhole) return void this.#parts.push(chunk);
    if (this.#streams === undefined) return this.kill();
    const answer = (this.#answer ??= this.#begin(chunk));
    answer.write(chunk);
    if (!answer.hasRoom) this.#child.stdout?.pause();
  }

  /** Whether what has been written may still become an answer of one piece. */
  get #isWhole(): boolean {
    return this.#streams !== 'all' && this.#bytes <= REPLY_BYTES;
  }

  #begin(chunk: Buffer): AnswerBody {
    const answer = new AnswerBody(undefined, this);
    const parts = this.#parts;
    this.#parts = [];
    const type = isTextSoFar(Buffer.concat([...parts, chunk])) ? TEXT : BYTES;
    for (const part of parts) answer.write(part);
    this.#resolve({ status: 200, headers: { 'content-type': type }, body: answer });
    return answer;
  }

  #end(detail: string | undefined, onFailure: (detail: string) => void): void {
    const answer = this.#answer;
    if (answer !== undefined) {
      if (detail === undefined) return answer.end();
      if (!answer.isUnwanted) onFailure(detail);
      return answer.break(`the program failed: ${detail}`);
    }
    if (this.#bytes > REPLY_BYTES) {
      onFailure(`its result is longer than ${REPLY_BYTES} bytes`);
      const message = `a result is longer than ${REPLY_BYTES} bytes`;
      return this.#resolve({ code: 'RESPONSE_TOO_LARGE', message });
    }
    if (detail === undefined) return this.#resolve(resultOf(Buffer.concat(this.#parts)));
    onFailure(detail);
    this.#resolve({ code: 'FUNC_CRASHED', message: `the program failed: ${detail}` });
  }
}

const TEXT = 'text/plain; charset=utf-8';
const BYTES = 'application/octet-stream';

/** Nothing written is 204; else the type that the bytes show, as a program has no way to say. */
function resultOf(body: Buffer): ProgramReply {
  if (body.length === 0) return { status: 204, headers: {}, body };
  return { status: 200, headers: { 'content-type': typeOf(body) }, body };
}

function typeOf(body: Buffer): string {
  if (!isUtf8(body)) return BYTES;
  const text = body.toString();
  return /^\s*[[{]/.test(text) && isJson(text) ? 'application/json' : TEXT;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Whether bytes are text that may go on: its last character may be cut. */
function isTextSoFar(bytes: Buffer): boolean {
  for (let cut = 0; cut <= Math.min(3, bytes.length - 1); cut++) {
    if (isUtf8(bytes.subarray(0, bytes.length - cut))) return true;
  }
  return false;
}
