import { STREAM_STEP_BYTES } from '../isolate/bridge.ts';

/** So many pieces that were taken are kept: to take them off one by one is slow where there are many. */
const KEPT_PIECES = 8;

/** Who reads the body of a call. `onEnd` or `onBreak` comes last, once. */
export interface BodyReader {
  /** Takes a piece; false: it wants no more before `resume`. */
  onPiece(piece: Buffer): boolean;
  onEnd(): void;
  /** It will not come to its end. */
  onBreak(why: string): void;
}

/**
 * The body of a call on its way to a program. Pieces wait here until they are read, and are sent no faster than that:
 * all that wait are never longer than the credit of a stream.
 *
 * States: open → ended (all has come), or broken, or cancelled (nobody reads any more).
 */
export class CallBody {
  readonly #giveCredit: (bytes: number) => void;
  #pieces: Buffer[] = [];
  #at = 0;
  #reader: BodyReader | undefined;
  #isPaused = false;
  #takenBytes = 0;
  #state: 'open' | 'ended' | 'broken' | 'cancelled' = 'open';
  #why = '';

  /** @param giveCredit has the sender send so many bytes more */
  constructor(giveCredit: (bytes: number) => void) {
    this.#giveCredit = giveCredit;
  }

  /** It will not come to its end. */
  get isBroken(): boolean {
    return this.#state === 'broken';
  }

  /** Hands everything to this reader, what has come already at once. */
  read(reader: BodyReader): void {
    this.#reader = reader;
    this.#flow();
  }

  /** The reader takes pieces again. */
  resume(): void {
    this.#isPaused = false;
    this.#flow();
  }

  /** Nobody reads any more: what waits, and what still comes, is dropped. */
  cancel(): void {
    this.#state = 'cancelled';
    this.#reader = undefined;
    this.#drop();
  }

  push(piece: Buffer): void {
    if (this.#state !== 'open') return;
    this.#pieces.push(piece);
    this.#flow();
  }

  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#flow();
  }

  break(why: string): void {
    if (this.#state === 'cancelled') return;
    this.#state = 'broken';
    this.#why = why;
    this.#drop();
    this.#flow();
  }

  #flow(): void {
    for (let reader = this.#reader; reader !== undefined && !this.#isPaused; reader = this.#reader) {
      const piece = this.#pieces[this.#at];
      if (piece === undefined) break;
      this.#at++;
      if (this.#at >= KEPT_PIECES && this.#at * 2 >= this.#pieces.length) this.#forgetTaken();
      this.#isPaused = !reader.onPiece(piece);
      this.#taken(piece.length);
    }
    const reader = this.#reader;
    if (reader === undefined || this.#at < this.#pieces.length || this.#state === 'open') return;
    this.#reader = undefined;
    if (this.#state === 'ended') reader.onEnd();
    else reader.onBreak(this.#why);
  }

  #taken(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes < STREAM_STEP_BYTES || this.#state !== 'open') return;
    const credit = this.#takenBytes;
    this.#takenBytes = 0;
    this.#giveCredit(credit);
  }

  #forgetTaken(): void {
    this.#pieces = this.#pieces.slice(this.#at);
    this.#at = 0;
  }

  #drop(): void {
    this.#pieces = [];
    this.#at = 0;
  }
}
