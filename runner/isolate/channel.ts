import type { Duplex } from 'node:stream';

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
  /** A whole frame. The payload is the receiver's; it may be a part of a larger buffer. Must not throw. */
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
  /** Pieces of a frame that has not arrived whole, and the bytes it takes to go on. */
  #pieces: Buffer[] = [];
  #have = 0;
  #need = FRAME_HEADER_BYTES;
  /** This turn has taken in enough; the socket is paused until the next. */
  #isHeld = false;
  #ended = false;

  /** @param maxFrameBytes longest payload accepted from the other side; a longer one ends the channel */
  constructor(socket: Duplex, maxFrameBytes: number, events: ChannelEvents) {
    this.#socket = socket;
    this.#maxFrameBytes = maxFrameBytes;
    this.#events = events;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
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

  /** Sends a frame made of the parts, in this turn of the event loop. The parts must not change afterwards. */
  send(kind: number, ...parts: Buffer[]): void {
    if (this.#ended) return;
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    // A short frame is put together at once: alone in its turn, as most are, it is written as it is.
    const isShort = bytes <= JOIN_BYTES;
    const header = Buffer.allocUnsafe(isShort ? FRAME_HEADER_BYTES + bytes : FRAME_HEADER_BYTES);
    header.writeUInt32BE(bytes, 0);
    header[4] = kind;
    const queue = isControl(kind) ? this.#control : this.#data;
    queue.push(header);
    let at = FRAME_HEADER_BYTES;
    for (const part of parts) {
      if (isShort) at += part.copy(header, at);
      else queue.push(part);
    }
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
    this.#have = 0;
    this.#pendingBytes = 0;
    this.#socket.destroy();
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#ended || this.#pendingBytes === 0) return;
    this.#write(this.#control);
    this.#control = [];
    // Data waits here and not in the socket's own queue, so that control frames can overtake it.
    if (this.#socket.writableNeedDrain) return;
    this.#write(this.#data);
    this.#data = [];
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

  #receive(chunk: Buffer): void {
    if (this.#ended) return;
    if (this.#have === 0 && !this.#isHeld) return this.#deliver(chunk, chunk.length);
    this.#pieces.push(chunk);
    this.#have += chunk.length;
    if (this.#have < this.#need || this.#isHeld) return;
    const over = this.#have - this.#need;
    if (this.#need === FRAME_HEADER_BYTES || over >= chunk.length) return this.#deliver(this.#takeKept(), chunk.length);
    // What came behind a frame that was cut in two is not copied with it: of frames as long as a read each is cut.
    const frame = Buffer.concat(this.#pieces, this.#need);
    this.#pieces = [];
    this.#have = 0;
    this.#parse(frame, 1);
    if (!this.#ended) this.#deliver(chunk.subarray(chunk.length - over), chunk.length);
  }

  /** Delivers what a turn may, of bytes that begin with a frame; the last `readBytes` of them were read just now. */
  #deliver(buffer: Buffer, readBytes: number): void {
    const at = this.#parse(buffer, TURN_FRAMES);
    if (this.#ended) return;
    this.#keep(buffer, at);
    const isMore = this.#have >= this.#need || (at > 0 && readBytes >= CHUNK_BYTES);
    if (isMore) this.#hold();
    else if (this.#isHeld) this.#release();
  }

  #hold(): void {
    if (!this.#isHeld) this.#socket.pause();
    this.#isHeld = true;
    setImmediate(() => this.#goOn());
  }

  #goOn(): void {
    if (this.#ended) return;
    if (this.#have >= this.#need) this.#deliver(this.#takeKept(), 0);
    else this.#release();
  }

  #release(): void {
    this.#isHeld = false;
    this.#socket.resume();
  }

  /** Delivers up to `limit` whole frames of `buffer`; returns where the first one that is left starts. */
  #parse(buffer: Buffer, limit: number): number {
    let at = 0;
    this.#need = FRAME_HEADER_BYTES;
    for (let left = limit; left > 0 && buffer.length - at >= FRAME_HEADER_BYTES; left--) {
      const bytes = buffer.readUInt32BE(at);
      if (bytes > this.#maxFrameBytes) {
        this.#end(`frame of ${bytes} bytes is longer than ${this.#maxFrameBytes}`);
        return buffer.length;
      }
      const end = at + FRAME_HEADER_BYTES + bytes;
      if (end > buffer.length) {
        this.#need = FRAME_HEADER_BYTES + bytes;
        break;
      }
      this.#events.onFrame(buffer[at + 4] ?? 0, buffer.subarray(at + FRAME_HEADER_BYTES, end));
      if (this.#ended) return buffer.length;
      at = end;
    }
    return at;
  }

  #keep(buffer: Buffer, from: number): void {
    if (from === buffer.length) return;
    this.#pieces = [buffer.subarray(from)];
    this.#have = buffer.length - from;
  }

  #takeKept(): Buffer {
    const [first = EMPTY] = this.#pieces;
    const kept = this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces, this.#have);
    this.#pieces = [];
    this.#have = 0;
    return kept;
  }

  /** The socket is gone: what had been read of it before, replies among it, is delivered first. */
  #close(): void {
    if (this.#isHeld && !this.#ended) this.#parse(this.#takeKept(), Infinity);
    this.#end(undefined);
  }

  #end(problem: string | undefined): void {
    if (this.#ended) return;
    this.destroy();
    this.#events.onEnd(problem);
  }
}

const EMPTY = Buffer.alloc(0);
