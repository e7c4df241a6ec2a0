import { CONNECTION_HEADERS } from '../../core/wire/connection-headers.ts';
import type { ProgramReply } from './program-call.ts';

/** What stands before the body of a response. */
export interface ResponseHead extends Pick<ProgramReply, 'status' | 'headers'> {
  /** Length of the body; `undefined` where only its end tells. */
  readonly bytes: number | undefined;
}

/** A response that has been read to its end; `body` is what nobody has taken piece by piece. */
export interface WholeResponse extends ResponseHead {
  readonly body: Buffer;
  readonly trailers: ProgramReply['headers'] | undefined;
}

export interface ResponseLimits {
  /** Status line, headers, chunk sizes and trailers together. */
  readonly headBytes: number;
  readonly headers: number;
  readonly bodyBytes: number;
}

/** What a program wrote is no response. */
export class ResponseProblem extends Error {
  readonly code: 'INVALID_RESPONSE' | 'RESPONSE_TOO_LARGE';
  constructor(message: string, code: ResponseProblem['code'] = 'INVALID_RESPONSE') {
    super(message);
    this.code = code;
  }
}

const STATUS_LINE = /^HTTP\/1\.([01]) ([2-5]\d\d)(?: [\t\u0020-\u007e\u0080-\u00ff]*)?$/;
const HEADER_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t\u0020-\u007e\u0080-\u00ff]*?)[\t ]*$/;
const CHUNK_LINE = /^([0-9A-Fa-f]{1,8})[\t ]*(?:;.*)?$/;
const LF = 10;
const CR = 13;

/**
 * Reads one HTTP/1.x response at a time as its bytes come in, strictly and within limits (RFC 9112). Lines may end in
 * LF alone (§2.2), and blank lines before a response are skipped: shell programs print them. Only one that says that the
 * connection ends with it may have a body without a length: others have forgotten it.
 *
 * States: `status` → `headers` → `body` → `done`, or → `size` → `chunk` → `chunkEnd` → `size`, whose 0 leads to `trailers` → `done`,
 * or → `rest` → `done` by `close`.
 */
export class ResponseReader {
  readonly #limits: ResponseLimits;
  readonly #isHead: boolean;
  readonly #headers = new Map<string, string[]>();
  readonly #trailers = new Map<string, string[]>();
  #parts: Buffer[] = [];
  #take: ((piece: Buffer) => void) | undefined;
  #head: ResponseHead | undefined;
  #state: 'status' | 'headers' | 'body' | 'rest' | 'size' | 'chunk' | 'chunkEnd' | 'trailers' | 'done' = 'status';
  #line = '';
  #headBytes = 0;
  #headerCount = 0;
  #status = 0;
  #isPersistent = true;
  #bodyBytes = 0;
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0;

  /** @param method of the request: a response to HEAD has no body, whatever its headers say */
  constructor(method: string, limits: ResponseLimits) {
    this.#isHead = method === 'HEAD';
    this.#limits = limits;
  }

  /** There once the body has begun. */
  get head(): ResponseHead | undefined {
    return this.#head;
  }

  /** Whether only the end of the output ends the body. */
  get endsWithOutput(): boolean {
    return this.#state === 'rest';
  }

  /** Hands the body over as it comes, what has come of it already at once. */
  passTo(take: (piece: Buffer) => void): void {
    this.#take = take;
    for (const part of this.#parts) take(part);
    this.#parts = [];
  }

  /**
   * Takes the next bytes, of which it keeps views; returns the response when it is whole.
   * @throws ResponseProblem, also when more than line ends follow
   */
  push(chunk: Buffer): WholeResponse | undefined {
    let at = 0;
    while (at < chunk.length && this.#state !== 'done') {
      at += this.#left > 0 ? this.#takeBody(chunk, at) : this.#takeLine(chunk, at);
    }
    if (this.#state !== 'done') return undefined;
    if (!isBlank(chunk.subarray(at))) throw new ResponseProblem('it wrote more than its response');
    return this.#whole();
  }

  /** The output has ended, and with it the response, if `endsWithOutput`. */
  close(): WholeResponse {
    this.#state = 'done';
    return this.#whole();
  }

  #whole(): WholeResponse {
    const [part] = this.#parts;
    const body = part !== undefined && this.#parts.length === 1 ? part : Buffer.concat(this.#parts);
    const { headers = {}, bytes } = this.#head ?? {};
    const trailers = this.#trailers.size === 0 ? undefined : objectOf(this.#trailers);
    return { status: this.#status, headers, bytes, body, trailers };
  }

  #takeBody(chunk: Buffer, at: number): number {
    const taken = Math.min(this.#left, chunk.length - at);
    if (this.#state === 'rest') this.#grown(taken);
    const piece = chunk.subarray(at, at + taken);
    if (this.#take === undefined) this.#parts.push(piece);
    else this.#take(piece);
    this.#left -= taken;
    if (this.#left === 0) this.#state = this.#state === 'body' ? 'done' : 'chunkEnd';
    return taken;
  }

  #takeLine(chunk: Buffer, at: number): number {
    const found = chunk.indexOf(LF, at);
    const end = found < 0 ? chunk.length : found;
    this.#headBytes += end - at + 1;
    if (this.#headBytes > this.#limits.headBytes) {
      throw new ResponseProblem(`its headers are longer than ${this.#limits.headBytes} bytes`);
    }
    this.#line += chunk.toString('latin1', at, end);
    if (found >= 0) {
      const line = this.#line.endsWith('\r') ? this.#line.slice(0, -1) : this.#line;
      this.#line = '';
      this.#readLine(line);
    }
    return end - at + (found < 0 ? 0 : 1);
  }

  #readLine(line: string): void {
    switch (this.#state) {
      case 'status':
        return this.#readStatus(line);
      case 'headers':
        return line === '' ? this.#endHeaders() : this.#readHeader(line);
      case 'size':
        return this.#readSize(line);
      case 'chunkEnd':
        if (line !== '') throw new ResponseProblem('a chunk is longer than it said');
        this.#state = 'size';
        return;
      case 'trailers':
        return line === '' ? this.#endTrailers() : this.#readTrailer(line);
      default:
        throw new ResponseProblem(`a line where none belongs (${this.#state})`);
    }
  }

  #readStatus(line: string): void {
    if (line === '') return;
    const [, version, status] = STATUS_LINE.exec(line) ?? [];
    if (status === undefined) throw new ResponseProblem('it does not begin with a status line of HTTP/1.1, 200 to 599');
    this.#isPersistent = version === '1';
    this.#status = Number(status);
    this.#state = 'headers';
  }

  #readHeader(line: string): void {
    const [, name, value = ''] = HEADER_LINE.exec(line) ?? [];
    if (name === undefined) throw new ResponseProblem('one of its header lines is none');
    this.#add(this.#headers, name, value);
  }

  /** Not everything is read that strictly whose loss is none. */
  #readTrailer(line: string): void {
    const [, name, value = ''] = HEADER_LINE.exec(line) ?? [];
    if (name !== undefined) this.#add(this.#trailers, name, value);
  }

  #add(fields: Map<string, string[]>, name: string, value: string): void {
    if (++this.#headerCount > this.#limits.headers) throw new ResponseProblem('it has too many headers');
    const key = name.toLowerCase();
    const values = fields.get(key);
    if (values === undefined) fields.set(key, [value]);
    else values.push(value);
  }

  #endTrailers(): void {
    for (const name of CONNECTION_HEADERS) this.#trailers.delete(name);
    this.#state = 'done';
  }

  #endHeaders(): void {
    const lengths = this.#headers.get('content-length');
    const codings = this.#headers.get('transfer-encoding');
    const connection = this.#headers.get('connection')?.join().toLowerCase() ?? '';
    const isLast = this.#isPersistent ? /\bclose\b/.test(connection) : !/\bkeep-alive\b/.test(connection);
    for (const name of CONNECTION_HEADERS) this.#headers.delete(name);
    if (this.#isHead || this.#status === 204 || this.#status === 304) {
      this.#state = 'done';
    } else if (codings !== undefined) {
      if (lengths !== undefined) throw new ResponseProblem('it has both Content-Length and Transfer-Encoding');
      if (codings.join().toLowerCase() !== 'chunked') throw new ResponseProblem('its Transfer-Encoding is not chunked');
      this.#state = 'size';
    } else if (lengths === undefined && isLast) {
      this.#left = Infinity;
      this.#state = 'rest';
    } else {
      this.#left = this.#lengthOf(lengths);
      this.#state = this.#left === 0 ? 'done' : 'body';
    }
    const bytes = this.#state === 'size' || this.#state === 'rest' ? undefined : this.#left;
    this.#head = { status: this.#status, headers: objectOf(this.#headers), bytes };
  }

  #lengthOf(lengths: readonly string[] | undefined): number {
    if (lengths === undefined) throw new ResponseProblem('it has no Content-Length');
    const [text = ''] = lengths;
    if (lengths.some((each) => each !== text) || !/^\d{1,15}$/.test(text)) {
      throw new ResponseProblem('its Content-Length is not one number');
    }
    return this.#grown(Number(text));
  }

  #readSize(line: string): void {
    const size = CHUNK_LINE.exec(line)?.[1];
    if (size === undefined) throw new ResponseProblem('a chunk does not begin with its size');
    this.#left = this.#grown(Number.parseInt(size, 16));
    this.#state = this.#left === 0 ? 'trailers' : 'chunk';
    // Many small chunks are no long head.
    this.#headBytes = Math.max(0, this.#headBytes - line.length - 4);
  }

  #grown(bytes: number): number {
    const { bodyBytes } = this.#limits;
    this.#bodyBytes += bytes;
    if (this.#bodyBytes > bodyBytes) {
      throw new ResponseProblem(`a reply is longer than ${bodyBytes} bytes`, 'RESPONSE_TOO_LARGE');
    }
    return bytes;
  }
}

function objectOf(fields: ReadonlyMap<string, string[]>): Record<string, string | string[]> {
  const object: Record<string, string | string[]> = {};
  for (const [name, values] of fields) object[name] = values.length === 1 ? (values[0] ?? '') : values;
  return object;
}

/** Whether there are only ends of lines: what `echo` adds. */
export function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === LF || byte === CR);
}
