import type { Writable } from 'node:stream';
import type { BodyReader } from './call-body.ts';
import { declaredBytes, headersOf, hostOf, methodOf, type ProgramCall, targetOf } from './program-call.ts';

/**
 * The head of a call as Fn's http format has it: an HTTP/1.1 request with the client's headers and
 * `Fn_deadline` (RFC 3339), `Fn_request_url`, `Fn_call_id`, `Fn_method`; `Content-Length` always, but for the body of a
 * direct operation whose client does not say how long it is, which comes in chunks (RFC 9112 §7.1).
 * `Fn_operation` is ours: a bundle has several operations, and calls from a queue have no path that tells them apart.
 * Source: fnproject/fn, docs/developers/function-format.md, "HTTP I/O Format".
 */
export function requestHead(call: ProgramCall): Buffer {
  const { meta } = call;
  const method = methodOf(meta);
  const target = targetOf(meta);
  const host = hostOf(meta);
  let head = `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n`;
  for (const [name, value] of headersOf(meta)) head += `${canonical(name)}: ${value}\r\n`;
  if (Number.isFinite(call.deadline)) head += `Fn_deadline: ${new Date(call.deadline).toISOString()}\r\n`;
  head += `Fn_request_url: http://${host}${target}\r\nFn_call_id: ${call.id}\r\nFn_method: ${method}\r\n`;
  const bytes = requestBytes(call);
  const framing = bytes === undefined ? 'Transfer-Encoding: chunked' : `Content-Length: ${bytes}`;
  head += `Fn_operation: ${call.operationId}\r\n${framing}\r\n\r\n`;
  // Node reads header bytes as latin1; written so, they leave as they came.
  return Buffer.from(head, 'latin1');
}

/** Length of the body, where it is known before it has come. */
export function requestBytes({ body, meta }: ProgramCall): number | undefined {
  return Buffer.isBuffer(body) ? body.length : declaredBytes(meta);
}

/** Who waits for a body to be written. One of these is called, once. */
export interface BodyOwner {
  /** All of it is on its way to the program. */
  onWritten(): void;
  /** It will not come to its end, or is not what was declared: nothing can follow it. */
  onBroken(why: string): void;
}

/** Writes the body that follows a head: `bytes` as they are, or in chunks where nobody knows how many. */
export class BodyWriter implements BodyReader {
  readonly #stdin: Writable;
  readonly #owner: BodyOwner;
  readonly #isChunked: boolean;
  #left: number;

  constructor(stdin: Writable, bytes: number | undefined, owner: BodyOwner) {
    this.#stdin = stdin;
    this.#owner = owner;
    this.#isChunked = bytes === undefined;
    this.#left = bytes ?? Infinity;
  }

  onPiece(piece: Buffer): boolean {
    if (piece.length === 0) return true;
    const stdin = this.#stdin;
    if (this.#isChunked) {
      stdin.cork();
      stdin.write(`${piece.length.toString(16)}\r\n`, 'latin1');
      stdin.write(piece);
      const hasRoom = stdin.write('\r\n', 'latin1');
      stdin.uncork();
      return hasRoom;
    }
    this.#left -= piece.length;
    // Its end is known before it is told: the program may answer at once.
    if (this.#left === 0) this.#owner.onWritten();
    return this.#left >= 0 && stdin.write(piece);
  }

  onEnd(): void {
    if (this.#isChunked) {
      this.#stdin.write('0\r\n\r\n', 'latin1');
      this.#owner.onWritten();
    } else if (this.#left !== 0) this.#owner.onBroken('it was not as long as declared');
  }

  onBreak(why: string): void {
    this.#owner.onBroken(why);
  }
}

/** Names that were written so before: clients send the same ones over and over. Forgotten when strangers send too many. */
const canonicalNames = new Map<string, string>();
const MAX_NAMES = 1_000;

/** As Go writes header names, which is how Fn's programs know them: `content-type` → `Content-Type`. */
function canonical(name: string): string {
  let written = canonicalNames.get(name);
  if (written === undefined) {
    written = name.toLowerCase().replaceAll(/(^|-)[a-z]/g, (start) => start.toUpperCase());
    if (canonicalNames.size >= MAX_NAMES) canonicalNames.clear();
    canonicalNames.set(name, written);
  }
  return written;
}
