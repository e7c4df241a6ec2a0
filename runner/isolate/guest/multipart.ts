import type { Part } from '../../../sdk/index.ts';
import { BLANK_LINE, delimiterOf, find, parameter, typeOf } from './body.ts';
import { concat } from './bytes.ts';
import { decodeUtf8 } from './encoding.ts';
import { callerError } from './operations.ts';

/** `event.parts()`: a multipart body read as it comes. Source: RFC 7578, RFC 2046 §5.1.1. */

const LINE_END = new Uint8Array([13, 10]);
const NOTHING = new Uint8Array(0);
const DASH = 0x2d;
/** Most parts of a body, bytes of the head of one, and of one that is read whole unless the func says otherwise. */
const MAX_PARTS = 1000;
const HEAD_BYTES = 16 * 1024;
const WHOLE_BYTES = 1024 * 1024;

/**
 * The parts of a body.
 * @throws Error INVALID_REQUEST when it is no multipart body, or breaks off within a part
 */
export async function* partsOf(body: AsyncIterator<Uint8Array>, contentType: string): AsyncGenerator<Part, undefined> {
  try {
    const delimiter = delimiterOf(contentType);
    if (delimiter === undefined) throw malformed(`content type "${contentType.slice(0, 100)}" names no boundary`);
    const reader = new Reader(body);
    await skip(reader, delimiter);
    for (let count = 1; await hasPart(reader); count++) {
      if (count > MAX_PARTS) throw malformed(`it has more than ${MAX_PARTS} parts`);
      const rest = new PartBody(reader, delimiter);
      yield partOf(decodeUtf8(await wholeOf(new PartBody(reader, BLANK_LINE), HEAD_BYTES, 'the head of a part')), rest);
      rest.isPassed = true;
      await rest.skip();
    }
    // What follows the last part is nobody's, but is read: the client may want to send all of it.
    while ((await reader.rest()) !== undefined);
  } finally {
    await body.return?.();
  }
}

function malformed(why: string): Error {
  return callerError('INVALID_REQUEST', `the body is no multipart body: ${why}`);
}

async function skip(reader: Reader, delimiter: Uint8Array): Promise<void> {
  while ((await reader.before(delimiter)) !== undefined);
}

/** After a delimiter: whether a part follows. Its head begins with the line end that ends the delimiter's own line. */
async function hasPart(reader: Reader): Promise<boolean> {
  if (await reader.isNext(DASH, DASH)) return false;
  const padding = decodeUtf8(await wholeOf(new PartBody(reader, LINE_END), HEAD_BYTES, 'a delimiter'));
  if (padding.trim() !== '') throw malformed('a delimiter does not end its line');
  reader.putBack(LINE_END);
  return true;
}

function partOf(head: string, body: PartBody): Part {
  const filename = parameter(head, 'filename');
  const name = parameter(head, 'name') ?? '';
  const bytes = (maxBytes = WHOLE_BYTES): Promise<Uint8Array> => {
    return wholeOf(body, maxBytes, `part "${name.slice(0, 100)}"`);
  };
  return {
    name,
    filename,
    contentType: typeOf(head) ?? (filename === undefined ? 'text/plain' : 'application/octet-stream'),
    stream: () => body,
    bytes,
    text: async (maxBytes) => decodeUtf8(await bytes(maxBytes)),
  };
}

async function wholeOf(body: PartBody, maxBytes: number, what: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (let next = await body.next(); next.done !== true; next = await body.next()) {
    length += next.value.length;
    if (length > maxBytes) throw callerError('PAYLOAD_TOO_LARGE', `${what} is longer than ${maxBytes} bytes`);
    pieces.push(next.value);
  }
  return concat(pieces);
}

/** The bytes up to a delimiter. */
class PartBody implements AsyncIterableIterator<Uint8Array> {
  readonly #reader: Reader;
  readonly #delimiter: Uint8Array;
  #isDone = false;
  /** The next part has been asked for. */
  isPassed = false;

  constructor(reader: Reader, delimiter: Uint8Array) {
    this.#reader = reader;
    this.#delimiter = delimiter;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.isPassed) throw new TypeError('this part is gone: read it before the next one is asked for');
    return await this.#next();
  }

  async skip(): Promise<void> {
    while ((await this.#next()).done !== true);
  }

  async #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const value = this.#isDone ? undefined : await this.#reader.before(this.#delimiter);
    if (value !== undefined) return { done: false, value };
    this.#isDone = true;
    return { done: true, value: undefined };
  }
}

/** The body as a whole, read by what it contains. */
class Reader {
  readonly #source: AsyncIterator<Uint8Array>;
  /** A first delimiter needs no line end before it. */
  #bytes: Uint8Array = LINE_END;

  constructor(source: AsyncIterator<Uint8Array>) {
    this.#source = source;
  }

  /** The next bytes before the pattern; `undefined` when it comes next, and then it has been read. */
  async before(pattern: Uint8Array): Promise<Uint8Array | undefined> {
    for (;;) {
      const at = find(this.#bytes, pattern, 0);
      if (at === 0) {
        this.#take(pattern.length);
        return undefined;
      }
      // Its end may be the beginning of the pattern.
      const length = at > 0 ? at : this.#bytes.length - overlap(this.#bytes, pattern);
      if (length > 0) return this.#take(length);
      if (!(await this.#more())) throw malformed('it ends too early');
    }
  }

  /** Whether these two bytes come next, which are then read. */
  async isNext(first: number, second: number): Promise<boolean> {
    while (this.#bytes.length < 2) if (!(await this.#more())) throw malformed('it ends too early');
    if (this.#bytes[0] !== first || this.#bytes[1] !== second) return false;
    this.#take(2);
    return true;
  }

  putBack(bytes: Uint8Array): void {
    this.#bytes = concat([bytes, this.#bytes]);
  }

  async rest(): Promise<Uint8Array | undefined> {
    if (this.#bytes.length === 0 && !(await this.#more())) return undefined;
    return this.#take(this.#bytes.length);
  }

  #take(length: number): Uint8Array {
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = length === this.#bytes.length ? NOTHING : this.#bytes.subarray(length);
    return taken;
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#source.next();
    if (done === true) return false;
    this.#bytes = this.#bytes.length === 0 ? value : concat([this.#bytes, value]);
    return true;
  }
}

/** How many bytes at the end are the beginning of the pattern. */
function overlap(bytes: Uint8Array, pattern: Uint8Array): number {
  for (let length = Math.min(bytes.length, pattern.length - 1); length > 0; length--) {
    const from = bytes.length - length;
    let at = 0;
    while (at < length && bytes[from + at] === pattern[at]) at++;
    if (at === length) return length;
  }
  return 0;
}
