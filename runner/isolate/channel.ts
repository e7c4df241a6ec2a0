import type { Duplex } from 'node:stream';
import { giveBack, SpentBuffers } from '../../core/spent-buffers.ts';

/**
 * The channel between a runner and a worker's process: frames over one duplex socket (fd 3 of the child).
 * The same class runs at both ends.
 *
 * ```
 * 0  u32  payload bytes
 * 4  u8   kind
 * 5  payload
 * ```
 */
export const FRAME_HEADER_BYTES = 5;

/** Kinds of frames; the arrow says who sends them (r = runner, c = child). Integers are big-endian, JSON is UTF-8. */
export const FrameKind = {
  /**
   * r→c: a seed of 32 bytes, u32 length of a `LoadSpec` as JSON, the JSON, V8's code cache of the bundle as long as the
   * spec says, then the text of the bundle. A cache that V8 refuses only costs time.
   */
  load: 1,
  /** c→r: loaded, `init` passed; no payload. */
  ready: 2,
  /** c→r: a `StartFailure` as JSON. */
  failed: 3,
  /** r→c: u32 tag, f64 clock offset in ms, then an envelope of calls, unopened. */
  calls: 4,
  /** c→r: u32 tag, then an envelope of replies. */
  replies: 5,
  /** c→r: u32 id, u32 length of `{name, args}` as JSON, the JSON, then bytes. */
  op: 6,
  /** r→c: u32 id, u8 1 = done or 0 = failed, u32 length of the result (or `{code, message}`) as JSON, the JSON, then bytes. */
  opResult: 7,
  /** c→r: a JSON list of log lines. */
  log: 8,
  /** r→c: ids of calls, 16 bytes each. c→r: ids of operations, u32 each. */
  cancel: 9,
  /** r→c: is the event loop alive? */
  ping: 10,
  /** c→r: yes. */
  pong: 11,
  /** r→c: run `destroy` and exit. */
  close: 12,
  /** c→r: the process is up and holds no bundle yet: the moment to measure and limit its memory. */
  hello: 13,
  /**
   * c→r: V8's code cache of the bundle, for the next worker that loads the same one: at most once, a little after `ready`,
   * and only when none was given or V8 refused it. At most `CODE_CACHE_BYTES`; comes from a stranger.
   */
  cache: 14,
  /** r→c: nobody needs it yet; it shall compile what its first bundle and call will run. Before `load`, if at all. */
  rehearse: 15,
  /**
   * Bodies on their way, in both directions; each begins with the 16 bytes of the call's id. Data; u32 bytes the other
   * side may send beyond `STREAM_CREDIT_BYTES` and what it was given before; the end, with trailers as JSON or nothing;
   * the end that is none, with the reason as text.
   */
  streamData: 16,
  streamCredit: 17,
  streamEnd: 18,
  streamReset: 19,
} as const;

/** The kinds that overtake everything that is not written yet: they are short, and somebody waits for them. */
function isControl(kind: number): boolean {
  return kind === FrameKind.cancel || kind === FrameKind.ping || kind === FrameKind.pong || kind === FrameKind.close;
}

/** What a long frame may begin with that is written together with its header: the id of a call. */
const ID_BYTES = 16;
/** Up to here the frames of a turn are joined into one buffer: one write of 16 KiB is cheaper than a vector of small ones. */
const JOIN_BYTES = 16 * 1024;

/**
 * Frames handed over in one turn of the event loop, out of one chunk: then everybody else has a turn. The other side may
 * send as fast as it likes; a frame that asks for an operation costs some 20 µs here.
 */
const TURN_FRAMES = 32;
/** What Node reads at once; a chunk so long means that more is there already. */
const CHUNK_BYTES = 64 * 1024;

export interface ChannelEvents {
  /**
   * A whole frame. The payload is the receiver's; it may be a part of a larger buffer. That of `streamData` over a channel
   * that reads into lent memory is there until this returns. Must not throw.
   */
  onFrame(kind: number, payload: Buffer): void;
  /** The channel is gone, once: ended by the other side, failed, or `problem` in what it sent. */
  onEnd(problem: string | undefined): void;
}

/**
 * Frames over a socket: coalesced per turn of the event loop, control frames first, every frame bounded, and so is how
 * many of them one turn takes in: what is not taken in yet waits in the socket, and at last in whoever sends it.
 */
export class Channel {
  readonly #socket: Duplex;
  readonly #events: ChannelEvents;
  readonly #maxFrameBytes: number;
  #control: Buffer[] = [];
  #data: Buffer[] = [];
  #pendingBytes = 0;
  #scheduled = false;
  /** Pieces of bodies that are not written yet, and those that are. */
  #pieces: Buffer[] = [];
  readonly #spent = new SpentBuffers();
  /** A header that is cut in two, and how much of it has come. */
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerBytes = 0;
  /** A payload that has memory of its own, and how much of it has come. */
  #payload: Buffer | undefined;
  #payloadKind = 0;
  #payloadBytes = 0;
  /** Frames delivered since the last read that took all there was. */
  #frames = 0;
  /** What was read and waits for the next turn: this one has taken in enough, and the socket is paused. */
  #kept: Buffer[] = [];
  #isHeld = false;
  /** A receiver has a part of what was read last. */
  #isPassedOn = false;
  readonly #isLent: boolean;
  #ended = false;

  /**
   * @param maxFrameBytes longest payload accepted from the other side; a longer one ends the channel
   * @param memory `lent`: what `receive` is given is read into the same memory again and again
   */
  constructor(socket: Duplex, maxFrameBytes: number, events: ChannelEvents, memory: 'own' | 'lent' = 'own') {
    this.#socket = socket;
    this.#maxFrameBytes = maxFrameBytes;
    this.#events = events;
    this.#isLent = memory === 'lent';
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => this.#flush());
    socket.on('end', () => this.#close());
    socket.on('close', () => this.#close());
    // EPIPE and ECONNRESET are how the other side's death looks from here; its exit is told by the process.
    socket.on('error', () => this.#close());
  }

  /** Bytes handed over and not yet taken by the operating system. */
  get backlogBytes(): number {
    return this.#pendingBytes + this.#socket.writableLength;
  }

  /**
   * Sends a frame made of the parts, in this turn of the event loop. The parts must not change afterwards; the piece that
   * `streamData` ends with is nobody's any more: its memory is given back when it has left.
   */
  send(kind: number, ...parts: Buffer[]): void {
    if (this.#ended) return;
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    // A short frame is put together at once: alone in its turn, as most are, it is written as it is.
    const isShort = bytes <= JOIN_BYTES;
    const first = parts.length > 1 ? (parts[0]?.length ?? 0) : 0;
    const joinedBytes = isShort ? bytes : first <= ID_BYTES ? first : 0;
    const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES + joinedBytes);
    header.writeUInt32BE(bytes, 0);
    header[4] = kind;
    const queue = isControl(kind) ? this.#control : this.#data;
    queue.push(header);
    let at = FRAME_HEADER_BYTES;
    for (const part of parts) {
      if (at < header.length) at += part.copy(header, at);
      else if (part.length > 0) queue.push(part);
    }
    const last = parts.at(-1);
    if (kind === FrameKind.streamData && !isShort && last !== undefined) this.#pieces.push(last);
    this.#pendingBytes += bytes + FRAME_HEADER_BYTES;
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => this.#flush());
  }

  /** Writes what is pending now: for whoever knows that its turn is over. */
  flush(): void {
    if (this.#scheduled) this.#flush();
  }

  /** Writes what is pending, then closes the socket; `done` is called when the operating system has it all. */
  end(done: () => void): void {
    this.#flush();
    this.#socket.end(done);
  }

  /** Drops what is not written and closes the socket. */
  destroy(): void {
    this.#ended = true;
    this.#control = [];
    this.#data = [];
    this.#pieces = [];
    this.#kept = [];
    this.#payload = undefined;
    this.#pendingBytes = 0;
    this.#socket.destroy();
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#ended) return;
    this.#write(this.#control);
    this.#control = [];
    // Data waits here and not in the socket's own queue, so that control frames can overtake it.
    if (!this.#socket.writableNeedDrain) {
      this.#write(this.#data);
      this.#data = [];
      for (const piece of this.#pieces) this.#spent.add(piece);
      this.#pieces = [];
    }
    this.#spent.free(this.#socket);
  }

  #write(parts: Buffer[]): void {
    if (parts.length === 0) return;
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    this.#pendingBytes -= bytes;
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) {
      this.#socket.write(first);
      return;
    }
    if (bytes <= JOIN_BYTES) {
      this.#socket.write(Buffer.concat(parts, bytes));
      return;
    }
    this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    this.#socket.uncork();
  }

  /** Takes what was read: for whoever reads into lent memory. */
  receive(chunk: Buffer): void {
    if (this.#ended) return;
    if (this.#isHeld) this.#kept.push(chunk);
    else this.#deliver(chunk);
  }

  /** Delivers what a turn may. */
  #deliver(chunk: Buffer): void {
    this.#isPassedOn = false;
    for (let at = 0; at < chunk.length;) {
      if (this.#frames >= TURN_FRAMES) return this.#hold(chunk.subarray(at));
      if (this.#payload !== undefined) at = this.#fill(this.#payload, chunk, at);
      else if (this.#headerBytes > 0 || chunk.length - at < FRAME_HEADER_BYTES) at = this.#fillHeader(chunk, at);
      else at = this.#begin(chunk, at, chunk, at + FRAME_HEADER_BYTES);
      if (this.#ended) return;
    }
    if (chunk.length < CHUNK_BYTES) this.#frames = 0;
    if (!this.#isLent && !this.#isPassedOn) giveBack(chunk);
  }

  /** Begins with the frame behind a header; returns how far it has come. */
  #begin(header: Buffer, headerAt: number, chunk: Buffer, at: number): number {
    const bytes = header.readUInt32BE(headerAt);
    const kind = header[headerAt + 4] ?? 0;
    if (bytes > this.#maxFrameBytes) {
      this.#end(`frame of ${bytes} bytes is longer than ${this.#maxFrameBytes}`);
      return chunk.length;
    }
    const end = at + bytes;
    const isBody = kind === FrameKind.streamData;
    // Pieces of bodies go to memory of their own, which can be given back when they have gone their way, as what they
    // were read into can at once.
    const isApart = isBody && !this.#isLent;
    if (end <= chunk.length && !isApart) {
      const payload = chunk.subarray(at, end);
      this.#isPassedOn = true;
      this.#pass(kind, this.#isLent && !isBody ? Buffer.from(payload) : payload);
      return end;
    }
    this.#payload = Buffer.allocUnsafe(bytes);
    this.#payloadKind = kind;
    this.#payloadBytes = 0;
    return this.#fill(this.#payload, chunk, at);
  }

  #fill(payload: Buffer, chunk: Buffer, at: number): number {
    const copied = chunk.copy(payload, this.#payloadBytes, at);
    this.#payloadBytes += copied;
    if (this.#payloadBytes === payload.length) {
      this.#payload = undefined;
      this.#pass(this.#payloadKind, payload);
      if (this.#isLent && this.#payloadKind === FrameKind.streamData) giveBack(payload);
    }
    return at + copied;
  }

  #fillHeader(chunk: Buffer, at: number): number {
    const copied = chunk.copy(this.#header, this.#headerBytes, at);
    this.#headerBytes += copied;
    if (this.#headerBytes < FRAME_HEADER_BYTES) return at + copied;
    this.#headerBytes = 0;
    return this.#begin(this.#header, 0, chunk, at + copied);
  }

  #pass(kind: number, payload: Buffer): void {
    this.#frames++;
    this.#events.onFrame(kind, payload);
  }

  #hold(rest: Buffer): void {
    this.#kept.push(rest);
    if (!this.#isHeld) this.#socket.pause();
    this.#isHeld = true;
    setImmediate(() => this.#goOn());
  }

  #goOn(): void {
    if (this.#ended) return;
    this.#deliverKept();
    if (!this.#isHeld && !this.#ended) this.#socket.resume();
  }

  #deliverKept(): void {
    const kept = this.#kept;
    this.#kept = [];
    this.#isHeld = false;
    this.#frames = 0;
    for (const chunk of kept) this.receive(chunk);
  }

  /** The socket is gone: what had been read of it before, replies among it, is delivered first. */
  #close(): void {
    while (this.#isHeld && !this.#ended) this.#deliverKept();
    this.#end(undefined);
  }

  #end(problem: string | undefined): void {
    if (this.#ended) return;
    this.destroy();
    this.#events.onEnd(problem);
  }
}
