import { Out, STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES } from '../bridge.ts';
import { concat, copyOf, viewOf } from './bytes.ts';
import { encodeUtf8 } from './encoding.ts';
import { putNote } from './outbox.ts';

/** Bodies of answers that funcs make piece by piece: whatever is async iterable, a `ReadableStream` too. */

type Source = AsyncIterator<unknown, unknown>;

const { stringify } = JSON;
const open = new Map<number, Outgoing>();
let lastId = 0;

/** Whether a body is made piece by piece. */
export function isStream(value: unknown): value is AsyncIterable<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as { [Symbol.asyncIterator]?: unknown })[Symbol.asyncIterator] === 'function'
  );
}

class Outgoing {
  readonly id = ++lastId;
  readonly #source: Source;
  readonly #onFailure: (thrown: unknown) => void;
  #credit = STREAM_CREDIT_BYTES;
  #isStopped = false;
  #wake: (() => void) | undefined;

  constructor(source: Source, onFailure: (thrown: unknown) => void) {
    this.#source = source;
    this.#onFailure = onFailure;
  }

  async pump(): Promise<void> {
    try {
      for (;;) {
        const { done, value } = await this.#source.next();
        if (this.#isStopped) return;
        if (done === true) return this.#end(value);
        await this.#send(toBytes(value));
        if (this.#isStopped) return;
      }
    } catch (thrown) {
      if (this.#isStopped) return;
      open.delete(this.id);
      putNote(Out.streamReset, this.id, 'the func threw while it made the body of its answer');
      this.#onFailure(thrown);
    }
  }

  give(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > 0) this.#wakeUp();
  }

  /** Nobody reads on: the source is told to clean up. */
  stop(): void {
    this.#isStopped = true;
    open.delete(this.id);
    this.#wakeUp();
    void this.#return();
  }

  async #return(): Promise<void> {
    try {
      await this.#source.return?.();
    } catch (thrown) {
      this.#onFailure(thrown);
    }
  }

  async #send(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += STREAM_FRAME_BYTES) {
      while (this.#credit <= 0 && !this.#isStopped) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#isStopped) return;
      const end = at + STREAM_FRAME_BYTES < bytes.length ? at + STREAM_FRAME_BYTES : bytes.length;
      const piece = new Uint8Array(bytes.buffer, bytes.byteOffset + at, end - at);
      this.#credit -= piece.length;
      putNote(Out.streamData, this.id, '', copyOf(piece));
    }
  }

  /** What a generator returns are the trailers. */
  #end(trailers: unknown): void {
    open.delete(this.id);
    putNote(Out.streamEnd, this.id, typeof trailers === 'object' && trailers !== null ? stringify(trailers) : '');
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** Begins to send a body; gives the number that stands for it. `onFailure` hears what its source threw. */
export function sendStream(body: AsyncIterable<unknown>, onFailure: (thrown: unknown) => void): number {
  const outgoing = new Outgoing(body[Symbol.asyncIterator](), onFailure);
  open.set(outgoing.id, outgoing);
  void outgoing.pump();
  return outgoing.id;
}

/** All of a body; `undefined` when it is longer than `maxBytes`. */
export async function gatherStream(body: AsyncIterable<unknown>, maxBytes: number): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const value of body) {
    const piece = toBytes(value);
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

/** Bytes and text as they are, anything else as a line of JSON. */
function toBytes(value: unknown): Uint8Array {
  if (typeof value === 'string') return encodeUtf8(value);
  return viewOf(value) ?? encodeUtf8(`${stringify(value)}\n`);
}
