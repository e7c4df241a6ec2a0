import { Out, STREAM_STEP_BYTES } from '../bridge.ts';
import { DOMException } from './dom-exception.ts';
import { putNote } from './outbox.ts';

/** Bodies of calls that come in pieces, as their funcs read them. */

const open = new Map<number, Incoming>();

type Result = IteratorResult<Uint8Array, undefined>;
const DONE: Result = Object.freeze({ done: true, value: undefined });

/**
 * The body of one call. Pieces wait here until they are read; the sender is told to go on as they are.
 * States: open → ended, broken or let go by its reader; what came before the end can still be read, unless it was let go.
 */
export class Incoming implements AsyncIterableIterator<Uint8Array> {
  readonly #id: number;
  #pieces: Uint8Array[] = [];
  #at = 0;
  #isEnded = false;
  #failure: Error | undefined;
  #readBytes = 0;
  /** Shared by all readers that wait: each of them then looks again. */
  #news: Promise<void> | undefined;
  #tell: (() => void) | undefined;

  constructor(id: number) {
    this.#id = id;
    open.set(id, this);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<Result> {
    for (;;) {
      const piece = this.#pieces[this.#at];
      if (piece !== undefined) return { done: false, value: this.#take(piece) };
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isEnded) return DONE;
      this.#news ??= new Promise((resolve) => {
        this.#tell = resolve;
      });
      await this.#news;
    }
  }

  /** The reader wants no more: the sender is not told to go on again. */
  return(): Promise<Result> {
    this.#pieces = [];
    this.#at = 0;
    this.end();
    return Promise.resolve(DONE);
  }

  push(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#wakeUp();
  }

  end(failure?: Error): void {
    this.#isEnded = true;
    this.#failure = failure;
    open.delete(this.#id);
    this.#wakeUp();
  }

  #take(piece: Uint8Array): Uint8Array {
    // A reader that never catches up shall not keep the whole body.
    this.#pieces[this.#at++] = NOTHING;
    if (this.#at === this.#pieces.length) {
      this.#pieces = [];
      this.#at = 0;
    }
    this.#readBytes += piece.length;
    if (this.#readBytes >= STREAM_STEP_BYTES && !this.#isEnded) {
      putNote(Out.streamCredit, this.#id, `${this.#readBytes}`);
      this.#readBytes = 0;
    }
    return piece;
  }

  #wakeUp(): void {
    const tell = this.#tell;
    this.#news = undefined;
    this.#tell = undefined;
    tell?.();
  }
}

const NOTHING = new Uint8Array(0);

/** The next piece, which is its reader's to change and to keep. */
export function pushPiece(id: number, bytes: Uint8Array | undefined): void {
  if (bytes !== undefined) open.get(id)?.push(bytes);
}

export function endBody(id: number): void {
  open.get(id)?.end();
}

/** The body will not come to its end. */
export function breakBody(id: number, why: string): void {
  open.get(id)?.end(new DOMException(`the body broke off: ${why}`, 'AbortError'));
}
