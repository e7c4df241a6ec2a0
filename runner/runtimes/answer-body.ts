import { STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES } from '../isolate/bridge.ts';
import { FrameKind } from '../isolate/channel.ts';

/** Who makes the body of an answer. */
export interface AnswerSource {
  /** All that was written has left: there is room for more. */
  onRoom(): void;
  /** Nobody wants the rest; what is still written is dropped. */
  onUnwanted(): void;
}

/** Sends a frame of the stream, and forgets the body after its last one. */
export type SendAnswer = (kind: number, data: Buffer) => void;

/**
 * The body of an answer as a program writes it. It leaves as fast as it is taken; its source writes no more while
 * `hasRoom` is false, so that what waits here is what was read of a pipe at once.
 *
 * States: open → ended or broken (its last frame has left, or leaves behind what waits) or unwanted.
 */
export class AnswerBody {
  /** How long it is; `undefined` where nobody knows. */
  readonly bytes: number | undefined;
  readonly #source: AnswerSource | undefined;
  #send: SendAnswer | undefined;
  #pieces: Buffer[] = [];
  #credit = STREAM_CREDIT_BYTES;
  #state: 'open' | 'ended' | 'broken' | 'unwanted' = 'open';
  #last = EMPTY;

  constructor(bytes: number | undefined, source?: AnswerSource) {
    this.bytes = bytes;
    this.#source = source;
  }

  get hasRoom(): boolean {
    return this.#pieces.length === 0;
  }

  get isUnwanted(): boolean {
    return this.#state === 'unwanted';
  }

  write(piece: Buffer): void {
    if (this.#state !== 'open' || piece.length === 0) return;
    this.#pieces.push(piece);
    this.#pump();
  }

  /** @param trailers as a JSON object, or nothing */
  end(trailers = ''): void {
    this.#finish('ended', trailers);
  }

  /** It ends without being whole: what waits is of no use to anybody. */
  break(why: string): void {
    if (this.#state === 'open') this.#pieces = [];
    this.#finish('broken', why);
  }

  /** The answer it belongs to has left. */
  start(send: SendAnswer): void {
    this.#send = send;
    this.#makeRoom();
  }

  /** Whoever takes it takes so many bytes more. */
  give(bytes: number): void {
    this.#credit += bytes;
    this.#makeRoom();
  }

  /** Nobody takes the rest. A source that has written all of it may have gone on to something else. */
  stop(): void {
    const isWritten = this.#state !== 'open';
    this.#state = 'unwanted';
    this.#pieces = [];
    if (!isWritten) this.#source?.onUnwanted();
  }

  #makeRoom(): void {
    const waited = !this.hasRoom;
    this.#pump();
    if (waited && this.hasRoom && this.#state === 'open') this.#source?.onRoom();
  }

  #finish(state: 'ended' | 'broken', last: string): void {
    if (this.#state !== 'open') return;
    this.#state = state;
    this.#last = Buffer.from(last);
    this.#pump();
  }

  #pump(): void {
    const send = this.#send;
    if (send === undefined) return;
    for (let piece = this.#pieces[0]; piece !== undefined && this.#credit > 0; piece = this.#pieces[0]) {
      const frame = piece.subarray(0, Math.min(this.#credit, STREAM_FRAME_BYTES));
      if (frame.length === piece.length) this.#pieces.shift();
      else this.#pieces[0] = piece.subarray(frame.length);
      this.#credit -= frame.length;
      send(FrameKind.streamData, frame);
    }
    if (!this.hasRoom || this.#state === 'open' || this.#state === 'unwanted') return;
    this.#send = undefined;
    send(this.#state === 'ended' ? FrameKind.streamEnd : FrameKind.streamReset, this.#last);
  }
}

const EMPTY = Buffer.alloc(0);
