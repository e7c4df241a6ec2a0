import { Out, STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES } from '../bridge.ts';
import { concat, copyOf, viewOf } from './bytes.ts';
import { encodeUtf8 } from './encoding.ts';
import { putNote } from './outbox.ts';
import { trailersOf } from './reply-headers.ts';
import { nextTurn, settles } from './turn.ts';

/** Bodies of answers that funcs make piece by piece: whatever is async iterable, a `ReadableStream` too, or an iterator. */

/** Where the pieces of a body come from. */
export type Source = AsyncIterator<unknown, unknown> | Iterator<unknown, unknown>;
export type Stream = AsyncIterable<unknown> | Iterable<unknown>;

/** Pieces taken of a source before everybody else has a turn: one that never waits would keep the worker for itself. */
const PIECES_PER_TURN = 1024;
/** How long a source that failed may take to clean up before its answer breaks off. */
const CLEAN_UP_MS = 1000;
/** So much text is never more than a frame. */
const TEXT_CHARS = Math.floor(STREAM_FRAME_BYTES / 3);

const { stringify } = JSON;
const open = new Map<number, Outgoing>();
let lastId = 0;

function has(value: object, name: PropertyKey): boolean {
  return typeof (value as Record<PropertyKey, unknown>)[name] === 'function';
}

/** Whether a body is made piece by piece. Lists, maps and the like are values: what is iterable must be an iterator itself. */
export function isStream(value: unknown): value is Stream {
  if (typeof value !== 'object' || value === null) return false;
  return has(value, Symbol.asyncIterator) || (has(value, 'next') && has(value, Symbol.iterator));
}

/** @throws whatever the stream throws, which may be locked */
export function sourceOf(stream: Stream): Source {
  return Symbol.asyncIterator in stream ? stream[Symbol.asyncIterator]() : stream[Symbol.iterator]();
}

/** What is told of a body on its way. */
export interface StreamListener {
  /** Its source threw. */
  onFailure(thrown: unknown): void;
  /** Nobody takes the rest of it: told before the source is. */
  onStopped(): void;
  /** Its source is done, cleaned up and all. */
  onOver(): void;
}

/** One body on its way. States: pumping ⇄ waiting for credit or for a turn → ended, failed or stopped. */
class Outgoing {
  readonly id = ++lastId;
  readonly #source: Source;
  readonly #listener: StreamListener;
  #credit = STREAM_CREDIT_BYTES;
  #isStopped = false;
  #wake: (() => void) | undefined;

  constructor(source: Source, listener: StreamListener) {
    this.#source = source;
    this.#listener = listener;
  }

  async pump(): Promise<void> {
    try {
      for (let pieces = 1; ; pieces++) {
        const { done, value } = await this.#source.next();
        if (this.#isStopped) return;
        if (done === true) return this.#end(value);
        if (typeof value === 'string') await this.#sendText(value);
        else await this.#sendBytes(viewOf(value) ?? encodeUtf8(lineOf(value)));
        if (pieces % PIECES_PER_TURN === 0) await nextTurn();
        if (this.#isStopped) return;
      }
    } catch (thrown) {
      if (this.#isStopped) return;
      open.delete(this.id);
      this.#listener.onFailure(thrown);
      await settles(this.#return(), CLEAN_UP_MS);
      this.#over(Out.streamReset, 'the func threw while it made the body of its answer');
    }
  }

  give(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > 0) this.#wakeUp();
  }

  /** Nobody reads on: the source is told to clean up. The host hears when it has. */
  stop(): void {
    this.#isStopped = true;
    open.delete(this.id);
    this.#wakeUp();
    void this.#cleanUp();
  }

  async #cleanUp(): Promise<void> {
    this.#listener.onStopped();
    await this.#return();
    this.#over(Out.streamEnd, '');
  }

  async #return(): Promise<void> {
    try {
      await this.#source.return?.();
    } catch (thrown) {
      this.#listener.onFailure(thrown);
    }
  }

  /** Text crosses as such, and becomes bytes where that is native. */
  async #sendText(text: string): Promise<void> {
    for (let at = 0; at < text.length && !this.#isStopped;) {
      const piece = at === 0 && text.length <= TEXT_CHARS ? text : text.slice(at, textEnd(text, at + TEXT_CHARS));
      at += piece.length;
      await this.#hasCredit();
      if (this.#isStopped) return;
      this.#credit -= utf8Bytes(piece);
      putNote(Out.streamData, this.id, piece);
    }
  }

  async #sendBytes(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#isStopped; at += STREAM_FRAME_BYTES) {
      await this.#hasCredit();
      if (this.#isStopped) return;
      const length = bytes.length - at < STREAM_FRAME_BYTES ? bytes.length - at : STREAM_FRAME_BYTES;
      this.#credit -= length;
      putNote(Out.streamData, this.id, '', copyOf(new Uint8Array(bytes.buffer, bytes.byteOffset + at, length)));
    }
  }

  async #hasCredit(): Promise<void> {
    while (this.#credit <= 0 && !this.#isStopped) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** What a generator returns are the trailers. */
  #end(returned: unknown): void {
    const trailers = trailersOf(returned);
    open.delete(this.id);
    this.#over(Out.streamEnd, trailers);
  }

  #over(out: number, text: string): void {
    this.#listener.onOver();
    putNote(out, this.id, text);
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** Begins to send a body; gives the number that stands for it. */
export function sendStream(stream: Stream, listener: StreamListener): number {
  const outgoing = new Outgoing(sourceOf(stream), listener);
  open.set(outgoing.id, outgoing);
  void outgoing.pump();
  return outgoing.id;
}

/** Lets a body go that nobody will read. */
export async function discardStream(stream: Stream): Promise<void> {
  await sourceOf(stream).return?.();
}

/**
 * All of a body; `undefined` when it is longer than `maxBytes`.
 * @param check throws when nobody waits for it any more
 */
export async function gatherStream(
  stream: Stream,
  maxBytes: number,
  check: () => void,
): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  let count = 0;
  for await (const value of stream) {
    check();
    if (++count % PIECES_PER_TURN === 0) await nextTurn();
    const piece = typeof value === 'string' ? encodeUtf8(value) : (viewOf(value) ?? encodeUtf8(lineOf(value)));
    length += piece.length;
    if (length > maxBytes) return undefined;
    pieces.push(copyOf(piece));
  }
  return concat(pieces);
}

export function giveCredit(id: number, bytes: number): void {
  open.get(id)?.give(bytes);
}

export function stopStream(id: number): void {
  open.get(id)?.stop();
}

/** A piece that is neither bytes nor text is a line of JSON. */
function lineOf(value: unknown): string {
  const json: string | undefined = stringify(value);
  if (json === undefined) throw new TypeError(`a piece of a body is text, bytes or JSON, and not ${typeof value}`);
  return `${json}\n`;
}

/** Where a piece of text ends that may end at `end`: not within a character. */
function textEnd(text: string, end: number): number {
  const code = text.charCodeAt(end - 1);
  return code >= 0xd800 && code <= 0xdbff ? end - 1 : end;
}

/** How long a text is in UTF-8; a lone surrogate is as long as the U+FFFD it becomes. */
function utf8Bytes(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 0x80) continue;
    bytes += code < 0x800 ? 1 : 2;
    if (code < 0xd800 || code > 0xdbff) continue;
    const next = text.charCodeAt(index + 1);
    // Four bytes for the two of them, which count as two already.
    if (next >= 0xdc00 && next <= 0xdfff) index++;
  }
  return bytes;
}
