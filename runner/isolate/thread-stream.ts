import { Duplex } from 'node:stream';

/** Bytes a side sends ahead of what the other has taken. */
const WINDOW_BYTES = 1024 * 1024;

/** How the bytes travel. */
export interface ThreadLink {
  /** Passes bytes on; they are the link's. */
  send(bytes: Uint8Array): void;
  /** Tells the other side that so many bytes were taken. */
  acknowledge(bytes: number): void;
}

/**
 * One end of a thread's stream: in the thread it stands where a process has the socket on fd 3, at the runner where that
 * has the socket's other end. Between them the bytes share one socket, so each stream sends only as much as the other
 * side has room for: a thread that does not read keeps nobody else waiting.
 */
export class ThreadStream extends Duplex {
  #link: ThreadLink | undefined;
  #unacknowledged = 0;
  /** Bytes that came and were not acknowledged: this side's reader has not asked for more yet. */
  #untaken = 0;
  #held: Uint8Array[] = [];
  #resume: (() => void) | undefined;

  /** Connects it; what was written before goes out now. */
  connect(link: ThreadLink): void {
    this.#link = link;
    for (const bytes of this.#held) link.send(bytes);
    this.#held = [];
  }

  /** Takes bytes from the other side. */
  receive(bytes: Uint8Array): void {
    if (this.destroyed) return;
    this.#untaken += bytes.length;
    if (this.push(bytes)) this.#acknowledge();
  }

  /** The other side took so many bytes. */
  acknowledged(bytes: number): void {
    this.#unacknowledged -= bytes;
    if (this.#unacknowledged > WINDOW_BYTES) return;
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }

  /** What comes is pushed when it comes; a reader that pauses keeps the other side waiting at its window. */
  override _read(): void {
    this.#acknowledge();
  }

  #acknowledge(): void {
    if (this.#untaken === 0) return;
    const bytes = this.#untaken;
    this.#untaken = 0;
    this.#link?.acknowledge(bytes);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    // A copy of its own: what is transferred to another thread takes its whole ArrayBuffer along.
    const bytes = new Uint8Array(chunk);
    this.#unacknowledged += bytes.length;
    if (this.#link === undefined) this.#held.push(bytes);
    else this.#link.send(bytes);
    if (this.#unacknowledged <= WINDOW_BYTES) done();
    else this.#resume = done;
  }
}
