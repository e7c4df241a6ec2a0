import { FuncatronError } from '../errors.ts';
import type { LogLevel } from '../log.ts';

/**
 * The envelope: many calls, or many replies, in one message.
 *
 * ```
 * 0  u8   version   (calls: 1, replies: 2)
 * 1  u8   kind      (1 = calls, 2 = replies)
 * 2  u16  count
 * 4  count fixed-size records, then for each record its meta and its body, in the same order
 * ```
 * All integers are big-endian. Metas are UTF-8 JSON (an empty meta means `{}`); bodies are raw bytes.
 * Whoever only forwards, splits, expires or answers calls reads records and never opens a meta or a body.
 *
 * Call record, 36 bytes:
 * ```
 * 0  16   call id (UUIDv7)        24 u16  operation index in the revision's Api
 * 16 f64  deadline, unix ms       26 u8   flags   27 u8 attempt (1 = first)
 * 28 u32  meta bytes              32 u32  body bytes
 * ```
 * Reply record, 44 bytes:
 * ```
 * 0  16   call id                 16 u16  HTTP status
 * 18 u8   flags   19 u8 reserved  20 u32  microseconds from its arrival to the first line of its func
 * 24 u32  microseconds the func took
 * 28 u32  meta bytes              32 u32  body bytes
 * 36 u32  its arrival: a stamp of core/stamp-clock.ts, 0 when nobody knows
 * 40 u32  microseconds of the wait that were the start of a worker
 * ```
 * A worker says when a call arrived in its process, by the clock of its machine. Its runner takes the arrival back to its
 * own, by cluster time, and makes the wait longer by as much: see `setTiming`.
 */
/** Bytes of a call id. Stands here and not with the maker of ids, which needs node:crypto: workers read envelopes and start faster without it. */
export const ID_BYTES = 16;
export const KIND_CALLS = 1;
export const KIND_REPLIES = 2;
/** What is written and read of each kind; a record that changes its layout gets the next version. */
const CALLS_VERSION = 1;
const REPLIES_VERSION = 2;
export const HEADER_BYTES = 4;
export const CALL_RECORD_BYTES = 36;
export const REPLY_RECORD_BYTES = 44;

export const CallFlag = {
  /** The call may be run again when a runner died with it (GET HEAD PUT DELETE OPTIONS, or declared idempotent). */
  mayRerun: 1,
  /** Its body does not come with it: the runner that has a slot for it answers `accepted`, and says where it wants it. */
  direct: 2,
  /** The body is text by its content type (JSON, text/*, form): the isolate may hand it over as a string. */
  text: 4,
  /** An event: nobody waits for the reply's body, only for its outcome. */
  event: 8,
  /** The meta says how this call is to be logged: workers open it before the func asks for anything. */
  log: 16,
  /** Whoever waits for the answer can fetch a long body of it from the runner. */
  fetches: 32,
} as const;

export const ReplyFlag = {
  /** A failure of the table: the body is UTF-8 JSON `{code, message, data?}`, not what a client gets. */
  failed: 1,
  /** `content-type: application/json` and no other header: the meta is empty. */
  json: 2,
  /** The body of the answer does not come with it. From a worker: it follows as a stream. From a runner: the body is a `DirectOffer`, where it is to be fetched. */
  direct: 4,
  /** No answer yet: the body is a `DirectOffer`, where the runner wants the body of the request and will answer. */
  accepted: 8,
} as const;

/** A call before it is encoded. `meta` is UTF-8 JSON of a `CallMeta`. Buffers are owned by the caller until encoded. */
export interface CallRecord {
  readonly id: Buffer;
  readonly deadline: number;
  readonly operation: number;
  readonly flags: number;
  readonly attempt: number;
  readonly meta: Buffer | string;
  readonly body: Buffer | undefined;
}

/** A reply before it is encoded. `meta` is UTF-8 JSON of a `ReplyMeta` (or empty). */
export interface ReplyRecord {
  readonly id: Buffer;
  readonly status: number;
  readonly flags: number;
  readonly waitUs: number;
  readonly funcUs: number;
  /** Absent: nobody knows. */
  readonly arrivedUs?: number;
  readonly coldUs?: number;
  readonly meta: Buffer | string;
  readonly body: Buffer | string | undefined;
}

/** What the meta of a call says; absent keys are empty. */
export interface CallMeta {
  readonly method?: string;
  /** The path as the client sent it, without the query. */
  readonly path?: string;
  /** Coerced and defaulted by the document. */
  readonly params?: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, unknown>>;
  readonly cookies?: Readonly<Record<string, unknown>>;
  /** Lower-case names; a repeated header is joined as RFC 9110 §5.3 says, `set-cookie` excepted. */
  readonly headers?: Readonly<Record<string, unknown>>;
  /** `http`, the kind of the trigger, or `invoke`: another func made the call. */
  readonly kind?: 'http' | 'queue' | 'invoke';
  /** Calls by `context.invoke` that led here; absent: none. */
  readonly hops?: number;
  /** With `CallFlag.log`: the lowest level of this call's lines, and whether they come back with the reply. */
  readonly log?: { readonly level?: LogLevel; readonly isReturned: boolean };
  /** Unix ms at which the frontend or the broker took the call. */
  readonly time?: number;
}

/** What the meta of a reply says. */
export interface ReplyMeta {
  /** Lower-case names; a list where a header is sent several times. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Lines of the call, where `CallMeta.log` asked for them; of failed replies too. */
  readonly log?: readonly CallLogLine[];
}

/** A line of a call's own log, as it goes back to the caller. */
export interface CallLogLine {
  readonly time: number;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields?: unknown;
  /** Lines before this one that were too many to be returned. */
  readonly dropped?: number;
}

/** The body of a reply whose `failed` flag is set. */
export interface FailedReply {
  readonly code: string;
  readonly message: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** Encodes calls as one envelope; every meta and body is copied once, into a buffer of the exact size. */
export function encodeCalls(calls: readonly CallRecord[]): Buffer {
  const target = allocate(KIND_CALLS, calls);
  let record = HEADER_BYTES;
  let payload = HEADER_BYTES + calls.length * CALL_RECORD_BYTES;
  for (const call of calls) {
    call.id.copy(target, record);
    target.writeDoubleBE(call.deadline, record + 16);
    target.writeUInt16BE(call.operation, record + 24);
    target[record + 26] = call.flags;
    target[record + 27] = call.attempt;
    payload = writePayload(target, record, payload, call);
    record += CALL_RECORD_BYTES;
  }
  return target;
}

/** Encodes replies as one envelope. */
export function encodeReplies(replies: readonly ReplyRecord[]): Buffer {
  const target = allocate(KIND_REPLIES, replies);
  let record = HEADER_BYTES;
  let payload = HEADER_BYTES + replies.length * REPLY_RECORD_BYTES;
  for (const reply of replies) {
    reply.id.copy(target, record);
    target.writeUInt16BE(reply.status, record + 16);
    target[record + 18] = reply.flags;
    target[record + 19] = 0;
    target.writeUInt32BE(reply.waitUs, record + 20);
    target.writeUInt32BE(reply.funcUs, record + 24);
    target.writeUInt32BE(reply.arrivedUs ?? 0, record + 36);
    target.writeUInt32BE(reply.coldUs ?? 0, record + 40);
    payload = writePayload(target, record, payload, reply);
    record += REPLY_RECORD_BYTES;
  }
  return target;
}

type Payload = { readonly meta: Buffer | string; readonly body: Buffer | string | undefined };

function allocate(kind: number, items: readonly Payload[]): Buffer {
  let size = HEADER_BYTES + items.length * recordBytesOf(kind);
  for (const item of items) size += byteLength(item.meta) + byteLength(item.body);
  const target = Buffer.allocUnsafe(size);
  target[0] = versionOf(kind);
  target[1] = kind;
  target.writeUInt16BE(items.length, 2);
  return target;
}

function versionOf(kind: number): number {
  return kind === KIND_REPLIES ? REPLIES_VERSION : CALLS_VERSION;
}

function recordBytesOf(kind: number): number {
  return kind === KIND_REPLIES ? REPLY_RECORD_BYTES : CALL_RECORD_BYTES;
}

function byteLength(part: Buffer | string | undefined): number {
  if (part === undefined) return 0;
  return typeof part === 'string' ? Buffer.byteLength(part) : part.length;
}

function writePayload(target: Buffer, record: number, start: number, item: Payload): number {
  const metaEnd = writePart(target, start, item.meta);
  const bodyEnd = writePart(target, metaEnd, item.body);
  target.writeUInt32BE(metaEnd - start, record + 28);
  target.writeUInt32BE(bodyEnd - metaEnd, record + 32);
  return bodyEnd;
}

function writePart(target: Buffer, at: number, part: Buffer | string | undefined): number {
  if (part === undefined) return at;
  return at + (typeof part === 'string' ? target.write(part, at) : part.copy(target, at));
}

/**
 * A view of an envelope; it copies nothing and opens nothing. `index` runs from 0 to `count - 1`.
 * The buffer belongs to whoever made the view and must not change while it is used.
 */
export class Envelope {
  readonly buffer: Buffer;
  readonly kind: number;
  readonly count: number;
  readonly #recordBytes: number;
  /** Where the meta of each record starts; the last entry is the end of the buffer. */
  readonly #starts: number[];

  /** @throws INVALID_REQUEST when the bytes are not an envelope of this version */
  constructor(buffer: Buffer) {
    const kind = buffer[1] ?? 0;
    if (buffer.length < HEADER_BYTES || buffer[0] !== versionOf(kind)) {
      throw new FuncatronError(
        'INVALID_REQUEST',
        `message of version ${buffer[0]}, kind ${kind} is not an envelope this process reads: calls (kind ${KIND_CALLS}) of version ${CALLS_VERSION}, replies (kind ${KIND_REPLIES}) of version ${REPLIES_VERSION}`,
      );
    }
    this.buffer = buffer;
    this.kind = kind;
    this.count = buffer.readUInt16BE(2);
    this.#recordBytes = recordBytesOf(kind);
    this.#starts = [];
    let start = HEADER_BYTES + this.count * this.#recordBytes;
    if (start > buffer.length) throw new FuncatronError('INVALID_REQUEST', 'envelope ends inside its records');
    for (let index = 0; index < this.count; index++) {
      this.#starts.push(start);
      start += this.metaBytes(index) + this.bodyBytes(index);
    }
    this.#starts.push(start);
    if (start !== buffer.length || (this.kind !== KIND_CALLS && this.kind !== KIND_REPLIES)) {
      throw new FuncatronError(
        'INVALID_REQUEST',
        `envelope of ${buffer.length} bytes does not match its records (${start} bytes)`,
      );
    }
  }

  /** Where the record starts in `buffer`; its first 16 bytes are the call id. */
  recordAt(index: number): number {
    return HEADER_BYTES + index * this.#recordBytes;
  }

  /** The call id, as a view. */
  id(index: number): Buffer {
    const at = this.recordAt(index);
    return this.buffer.subarray(at, at + ID_BYTES);
  }

  /** The last 32 bits of the call id: see `writeId`. */
  idTail(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 12);
  }

  metaBytes(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 28);
  }

  bodyBytes(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 32);
  }

  /** The meta, as a view. */
  meta(index: number): Buffer {
    const start = this.#starts[index] ?? 0;
    return this.buffer.subarray(start, start + this.metaBytes(index));
  }

  /** The body, as a view. */
  body(index: number): Buffer {
    const start = (this.#starts[index] ?? 0) + this.metaBytes(index);
    return this.buffer.subarray(start, start + this.bodyBytes(index));
  }

  // Calls.
  deadline(index: number): number {
    return this.buffer.readDoubleBE(this.recordAt(index) + 16);
  }
  operation(index: number): number {
    return this.buffer.readUInt16BE(this.recordAt(index) + 24);
  }
  callFlags(index: number): number {
    return this.buffer[this.recordAt(index) + 26] ?? 0;
  }
  attempt(index: number): number {
    return this.buffer[this.recordAt(index) + 27] ?? 0;
  }

  // Replies.
  status(index: number): number {
    return this.buffer.readUInt16BE(this.recordAt(index) + 16);
  }
  replyFlags(index: number): number {
    return this.buffer[this.recordAt(index) + 18] ?? 0;
  }
  waitUs(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 20);
  }
  funcUs(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 24);
  }
  arrivedUs(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 36);
  }
  coldUs(index: number): number {
    return this.buffer.readUInt32BE(this.recordAt(index) + 40);
  }

  /** Writes into a reply when its call arrived here and how long it waited since; the buffer must be the caller's own. */
  setTiming(index: number, arrivedUs: number, waitUs: number, coldUs: number): void {
    const at = this.recordAt(index);
    this.buffer.writeUInt32BE(waitUs, at + 20);
    this.buffer.writeUInt32BE(arrivedUs, at + 36);
    this.buffer.writeUInt32BE(coldUs, at + 40);
  }

  /**
   * A new envelope of some of the records, metas and bodies copied as they are.
   * @param attempt when given, the attempt every chosen call now carries
   */
  pick(indexes: readonly number[], attempt?: number): Buffer {
    const recordBytes = this.#recordBytes;
    let size = HEADER_BYTES + indexes.length * recordBytes;
    for (const index of indexes) size += this.metaBytes(index) + this.bodyBytes(index);
    const target = Buffer.allocUnsafe(size);
    target[0] = versionOf(this.kind);
    target[1] = this.kind;
    target.writeUInt16BE(indexes.length, 2);
    let record = HEADER_BYTES;
    let payload = HEADER_BYTES + indexes.length * recordBytes;
    for (const index of indexes) {
      const at = this.recordAt(index);
      this.buffer.copy(target, record, at, at + recordBytes);
      if (attempt !== undefined) target[record + 27] = Math.min(attempt, 255);
      const start = this.#starts[index] ?? 0;
      payload += this.buffer.copy(target, payload, start, start + this.metaBytes(index) + this.bodyBytes(index));
      record += recordBytes;
    }
    return target;
  }
}
