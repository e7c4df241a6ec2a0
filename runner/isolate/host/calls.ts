import { isUtf8 } from 'node:buffer';
import { ERRORS } from '../../../core/errors.ts';
import { StampClock } from '../../../core/stamp-clock.ts';
import {
  CallFlag,
  encodeReplies,
  Envelope,
  type FailedReply,
  REPLY_RECORD_BYTES,
  ReplyFlag,
  type ReplyRecord,
} from '../../../core/wire/envelope.ts';
import { encodeLength } from '../../../core/wire/direct.ts';
import { Cell, FAILURES, Out, REPLY_BYTES } from '../bridge.ts';
import type { Realm } from './realm.ts';
import type { Realms } from './realms.ts';
import type { Streams } from './streams.ts';
import { textOf } from './text.ts';
import { readBytes, writeBytes } from './window.ts';

/** A call that is in the guest. */
interface Entry {
  /** `undefined` while it waits for one. */
  realm: Realm | undefined;
  readonly tag: number;
  readonly id: Buffer;
  /** Of the call: `CallFlag`. */
  readonly flags: number;
  readonly receivedMs: number;
  readonly arrivedUs: number;
  enteredMs: number;
  /** When its func had returned, for a call that did not wait; else 0. */
  leftMs: number;
  /** Unix ms on this machine. */
  readonly deadline: number;
  isAborted: boolean;
}

/** A call in the line. */
interface Waiting {
  readonly slot: number;
  readonly entry: Entry;
  readonly envelope: Envelope;
  readonly index: number;
  readonly body: Buffer;
}

export interface CallsOptions {
  readonly realms: Pick<Realms, 'take' | 'giveBack' | 'makeSoon'>;
  readonly streams: Streams;
  /** Whether the func of an operation reads its body piece by piece. */
  isStreaming(operation: number): boolean;
  /** See `LoadSpec.directBytes`. */
  directBytes(): number;
  /** Sends a frame of replies. */
  send(tag: number, envelope: Buffer): void;
  /** A guest is about to be entered, and has work afterwards. */
  onWork(realm: Realm): void;
  /** A call of the realm has its answer. */
  onAnswered(realm: Realm): void;
  /** Deadlines have passed outside of any frame: there may be replies to send. */
  onWoken(): void;
}

/** A frame of replies is closed when it is this long: the broker carries them as one message. */
const REPLIES_BYTES = 1024 * 1024;
const MAX_CANCELLED = 256;
/** The longest wait `setTimeout` takes. */
const LONGEST_MS = 2 ** 31 - 1;

/** The calls in a worker: into the guest, and their replies out of it, coalesced per tag and turn. */
export class Calls {
  readonly #options: CallsOptions;
  readonly #entries: (Entry | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #stamps = new StampClock();
  /** Calls that wait for a realm; those that were answered meanwhile are passed over. */
  #line: Waiting[] = [];
  #replies = new Map<number, ReplyRecord[]>();
  /** Calls that were cancelled before they came, as hex: cancel frames overtake calls. */
  readonly #cancelled = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #wakeAt = Infinity;

  constructor(options: CallsOptions) {
    this.#options = options;
  }

  /** Calls that wait for a realm. */
  get waiting(): number {
    return this.#line.length;
  }

  /** Enters every call of an envelope into its guest; the guest runs up to the first `await` of each. */
  enter(tag: number, clockOffsetMs: number, bytes: Buffer): void {
    const receivedMs = performance.now();
    const arrivedUs = this.#stamps.stampOf(receivedMs);
    const now = Date.now();
    const envelope = new Envelope(bytes);
    for (let index = 0; index < envelope.count; index++) {
      const deadline = envelope.deadline(index) + clockOffsetMs;
      if (deadline <= now) this.#expire(tag, envelope.id(index));
      else this.#accept(tag, envelope, index, deadline, receivedMs, arrivedUs);
    }
  }

  /** Realms have come up: calls that waited for one enter. */
  resume(): void {
    while (this.#line.length > 0) {
      const realm = this.#options.realms.take();
      if (realm === undefined) return;
      const next = this.#next();
      // Nobody waits any more: the realm stays for the next one, as clean as it is.
      if (next === undefined) return this.#options.realms.giveBack(realm);
      this.#enter(next, realm);
    }
  }

  /** The realm for the first of the calls that wait will not come. */
  failNext(message: string): void {
    const next = this.#next();
    if (next !== undefined) this.#fail(next.slot, 'FUNC_ERROR', message);
  }

  #next(): Waiting | undefined {
    for (let next = this.#line.shift(); next !== undefined; next = this.#line.shift()) {
      if (this.#entries[next.slot] === next.entry) return next;
    }
    return undefined;
  }

  #accept(
    tag: number,
    envelope: Envelope,
    index: number,
    deadline: number,
    receivedMs: number,
    arrivedUs: number,
  ): void {
    const id = envelope.id(index);
    const flags = envelope.callFlags(index);
    const slot = this.#free.pop() ?? this.#entries.length;
    const entry: Entry = {
      realm: undefined,
      tag,
      id,
      flags,
      receivedMs,
      arrivedUs,
      enteredMs: 0,
      leftMs: 0,
      deadline,
      isAborted: false,
    };
    this.#entries[slot] = entry;
    this.#wakeBy(deadline);
    const isCollected = (flags & CallFlag.direct) !== 0 && !this.#options.isStreaming(envelope.operation(index));
    const call = { slot, entry, envelope, index, body: envelope.body(index) };
    if (isCollected) this.#collect(call);
    else this.#offer(call);
    if (this.#cancelled.size > 0 && this.#cancelled.delete(id.toString('hex'))) this.#abort(slot, 0);
  }

  /** A realm for the call, or a place in the line. */
  #offer(call: Waiting): void {
    const realm = this.#line.length > 0 ? undefined : this.#options.realms.take();
    if (realm !== undefined) return this.#enter(call, realm);
    this.#line.push(call);
    this.#options.realms.makeSoon();
  }

  /** Its body is on its way here. */
  #collect(call: Waiting): void {
    const { slot, entry } = call;
    this.#options.streams.collect(entry.id, {
      onWhole: (body) => {
        if (this.#entries[slot] === entry) this.#offer({ ...call, body });
        this.#options.onWoken();
      },
      onBroken: (why) => {
        if (this.#entries[slot] === entry) this.#fail(slot, 'FUNC_ERROR', `the body of the call broke off: ${why}`);
        this.#options.onWoken();
      },
    });
  }

  #enter({ slot, entry, envelope, index, body }: Waiting, realm: Realm): void {
    const { guest, cells } = realm;
    const { id, flags } = entry;
    const isStreaming = (flags & CallFlag.direct) !== 0 && this.#options.isStreaming(envelope.operation(index));
    entry.realm = realm;
    entry.enteredMs = performance.now();
    this.#options.onWork(realm);
    try {
      cells[Cell.stream] = isStreaming ? this.#options.streams.open(id, realm) : 0;
      const text = passBody(realm, body, flags);
      const isDone = guest.enter(
        slot,
        envelope.operation(index),
        flags,
        envelope.attempt(index),
        id.readInt32BE(0),
        id.readInt32BE(4),
        id.readInt32BE(8),
        id.readInt32BE(12),
        entry.deadline,
        envelope.meta(index).toString(),
        text,
      );
      if (isDone === 1) entry.leftMs = performance.now();
      else if (entry.isAborted) guest.abort(slot, 0);
    } catch {
      // Never looked at: it is a guest's value. The bootstrap catches all but an overflow and a body it has no memory for.
      this.#fail(slot, 'FUNC_ERROR', 'the func could not be run');
    }
  }

  /** Takes over a reply that a guest has just handed out. */
  takeReply(realm: Realm, text: string): void {
    const { cells, guest } = realm;
    const slot = cells[Cell.id] ?? -1;
    const entry = this.#entries[slot];
    if (entry === undefined || entry.realm !== realm) return;
    if (cells[Cell.out] === Out.failure) {
      const code = FAILURES[cells[Cell.status] ?? 0] ?? 'FUNC_ERROR';
      this.#put(slot, entry, ERRORS[code].status, ReplyFlag.failed, '', text);
      return;
    }
    const { id, flags: callFlags } = entry;
    const status = cells[Cell.status] ?? 500;
    const flags = cells[Cell.flags] ?? 0;
    const stream = cells[Cell.stream] ?? 0;
    const meta = cells[Cell.meta] === 1 ? textOf(guest.takeMeta()) : '';
    const body = readBytes(realm) ?? text;
    if (stream !== 0) {
      this.#options.streams.sendFrom(id, realm, stream);
      // Who has hung up does so once, and has done it: nobody would stop this body.
      if (entry.isAborted) return this.#refuse(slot, entry);
      return this.#put(slot, entry, status, flags | ReplyFlag.direct, meta, encodeLength(undefined));
    }
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    if ((callFlags & CallFlag.fetches) !== 0 && length > this.#options.directBytes()) {
      if (entry.isAborted) return this.#refuse(slot, entry);
      this.#options.streams.sendBytes(id, typeof body === 'string' ? Buffer.from(body) : body);
      return this.#put(slot, entry, status, flags | ReplyFlag.direct, meta, encodeLength(length));
    }
    if (length > REPLY_BYTES) {
      return this.#fail(slot, 'RESPONSE_TOO_LARGE', `a reply of ${length} bytes is longer than ${REPLY_BYTES}`);
    }
    this.#put(slot, entry, status, flags, meta, body);
  }

  /** Tells the guest that nobody waits for these calls any more. */
  cancel(ids: Buffer): void {
    for (let at = 0; at + 16 <= ids.length; at += 16) {
      const id = ids.subarray(at, at + 16);
      const slot = this.#entries.findIndex((entry) => entry !== undefined && entry.id.equals(id));
      if (slot >= 0) this.#abort(slot, 0);
      else this.#remember(id.toString('hex'));
    }
  }

  /** Most of these calls have been answered already, so the oldest are forgotten. */
  #remember(id: string): void {
    this.#cancelled.add(id);
    if (this.#cancelled.size <= MAX_CANCELLED) return;
    for (const oldest of this.#cancelled) {
      this.#cancelled.delete(oldest);
      return;
    }
  }

  /** Sends the replies of this turn: one frame a tag, or several where they are long. */
  flush(): void {
    if (this.#replies.size === 0) return;
    const replies = this.#replies;
    this.#replies = new Map();
    for (const [tag, records] of replies) this.#sendAll(tag, records);
  }

  #sendAll(tag: number, records: ReplyRecord[]): void {
    let start = 0;
    let bytes = 0;
    for (let index = 0; index < records.length; index++) {
      bytes += REPLY_RECORD_BYTES + (records[index]?.meta.length ?? 0) + (records[index]?.body?.length ?? 0);
      if (bytes < REPLIES_BYTES) continue;
      this.#options.send(tag, encodeReplies(records.slice(start, index + 1)));
      start = index + 1;
      bytes = 0;
    }
    if (start === 0) this.#options.send(tag, encodeReplies(records));
    else if (start < records.length) this.#options.send(tag, encodeReplies(records.slice(start)));
  }

  #expire(tag: number, id: Buffer): void {
    const { status } = ERRORS.TIMEOUT;
    this.#add(tag, { id, status, flags: ReplyFlag.failed, waitUs: 0, funcUs: 0, meta: '', body: TOO_LATE });
  }

  /** Nobody waits any more for the answer whose body a guest has begun to make. */
  #refuse(slot: number, entry: Entry): void {
    this.#options.streams.stop(entry.id);
    this.#put(slot, entry, ERRORS.TIMEOUT.status, ReplyFlag.failed, '', NOBODY_WAITS);
  }

  #fail(slot: number, code: 'FUNC_ERROR' | 'RESPONSE_TOO_LARGE', message: string): void {
    const entry = this.#entries[slot];
    if (entry !== undefined) {
      this.#put(slot, entry, ERRORS[code].status, ReplyFlag.failed, '', failure(code, message));
    }
  }

  #put(slot: number, entry: Entry, status: number, flags: number, meta: string, body: Buffer | string): void {
    this.#entries[slot] = undefined;
    this.#free.push(slot);
    const now = performance.now();
    const enteredMs = entry.enteredMs === 0 ? now : entry.enteredMs;
    const waitUs = Math.round((enteredMs - entry.receivedMs) * 1000);
    const funcUs = Math.round(((entry.leftMs === 0 ? now : entry.leftMs) - enteredMs) * 1000);
    if ((entry.flags & CallFlag.direct) !== 0 && (flags & ReplyFlag.direct) === 0) {
      this.#options.streams.answered(entry.id);
    }
    const { id, arrivedUs } = entry;
    this.#add(entry.tag, { id, status, flags, arrivedUs, waitUs, funcUs, meta, body });
    if (entry.realm !== undefined) this.#options.onAnswered(entry.realm);
  }

  #add(tag: number, record: ReplyRecord): void {
    const records = this.#replies.get(tag);
    if (records === undefined) this.#replies.set(tag, [record]);
    else records.push(record);
  }

  /** One timer for all deadlines: it wakes at the earliest one it knew of and looks for the next. */
  #wakeBy(deadline: number): void {
    if (deadline >= this.#wakeAt) return;
    clearTimeout(this.#timer);
    this.#wakeAt = deadline;
    this.#timer = setTimeout(() => this.#wake(), Math.min(deadline - Date.now() + 1, LONGEST_MS));
  }

  #wake(): void {
    const now = Date.now();
    let next = Infinity;
    for (const [slot, entry] of this.#entries.entries()) {
      if (entry === undefined || entry.isAborted) continue;
      if (entry.deadline <= now) this.#expireAt(slot, entry);
      else next = Math.min(next, entry.deadline);
    }
    this.#wakeAt = Infinity;
    this.#wakeBy(next);
    this.#options.onWoken();
  }

  #expireAt(slot: number, entry: Entry): void {
    if (entry.realm !== undefined) return this.#abort(slot, 1);
    this.#put(slot, entry, ERRORS.TIMEOUT.status, ReplyFlag.failed, '', TOO_LATE);
  }

  #abort(slot: number, why: 0 | 1): void {
    const entry = this.#entries[slot];
    if (entry === undefined || entry.isAborted) return;
    entry.isAborted = true;
    if (entry.realm === undefined) return;
    this.#options.onWork(entry.realm);
    try {
      entry.realm.guest.abort(slot, why);
    } catch {
      // A guest's value, never looked at; the call goes on without its signal.
    }
  }
}

/** The body as text where it is text; else it goes through the window and the guest has it before it enters. */
function passBody(realm: Realm, body: Buffer, flags: number): string | undefined {
  if (body.length === 0) return undefined;
  if ((flags & CallFlag.text) !== 0) {
    const text = body.toString();
    // U+FFFD stands for malformed bytes, or for itself; looking for it costs nothing in a string of one-byte characters.
    if (!text.includes('\ufffd') || isUtf8(body)) return text;
  }
  writeBytes(realm, body);
  return undefined;
}

const NOBODY_WAITS = failure('TIMEOUT', 'nobody waited for the answer of the func any more');
const TOO_LATE = failure('TIMEOUT', 'the deadline had passed before the func started');

function failure(code: FailedReply['code'], message: string): string {
  return JSON.stringify({ code, message } satisfies FailedReply);
}
