import { STREAM_ID_BYTES } from '../../../core/wire/direct.ts';
import { Out, STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES, STREAM_STEP_BYTES, StreamEvent } from '../bridge.ts';
import { FrameKind } from '../channel.ts';
import type { SendFrame } from './bundle-host.ts';
import type { Realm } from './realm.ts';
import { readBytes, writeBytes } from './window.ts';

export interface StreamsOptions {
  readonly send: SendFrame;
  /** A guest has been entered, and has work. */
  onWork(realm: Realm): void;
  /** A realm has no streams any more. */
  onIdle(realm: Realm): void;
}

/** Who gets a body in one piece. */
export interface Collector {
  onWhole(body: Buffer): void;
  onBroken(why: string): void;
}

/** A body that is kept until it is whole. */
interface Collected {
  readonly collector: Collector;
  readonly pieces: Buffer[];
  unacknowledged: number;
}

/** A body that a guest reads, or makes, under a number of its realm's. */
interface Guested {
  readonly realm: Realm;
  readonly number: number;
}

/** The body of an answer that is here as a whole. */
interface Held {
  readonly bytes: Buffer;
  at: number;
  credit: number;
}

/** The bodies on their way into and out of a worker; each belongs to a call, whose id as latin1 is its key. */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #incoming = new Map<string, Collected | Guested>();
  readonly #outgoing = new Map<string, Held | Guested>();
  /** The key of each number a realm knows. */
  readonly #keys = new Map<Realm, Map<string, string>>();
  /** What guests gave in this turn, in order: it leaves behind the answers it belongs to. */
  #given: {
    readonly realm: Realm;
    readonly out: number;
    readonly number: number;
    readonly text: string;
    readonly bytes: Buffer | undefined;
  }[] = [];
  #lastNumber = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** Keeps the body of a call until it is whole. */
  collect(id: Buffer, collector: Collector): void {
    this.#incoming.set(keyOf(id), { collector, pieces: [], unacknowledged: 0 });
  }

  /** The body of a call is for a guest to read; gives the number it has there. */
  open(id: Buffer, realm: Realm): number {
    const number = ++this.#lastNumber;
    this.#incoming.set(keyOf(id), { realm, number });
    this.#know(realm, `in ${number}`, keyOf(id));
    return number;
  }

  /** Sends the body of an answer. */
  sendBytes(id: Buffer, bytes: Buffer): void {
    const held = { bytes, at: 0, credit: STREAM_CREDIT_BYTES };
    this.#outgoing.set(keyOf(id), held);
    // Behind the answer.
    setImmediate(() => this.#pump(keyOf(id), held));
  }

  /** The body of an answer is what the guest makes under this number. */
  sendFrom(id: Buffer, realm: Realm, number: number): void {
    this.#outgoing.set(keyOf(id), { realm, number });
    this.#know(realm, `out ${number}`, keyOf(id));
  }

  /** Whether bodies of the realm's are on their way. */
  has(realm: Realm): boolean {
    return this.#keys.has(realm);
  }

  /** Takes what a guest has handed out: see `Out`. */
  take(realm: Realm, out: number, number: number, text: string): void {
    this.#given.push({ realm, out, number, text, bytes: readBytes(realm) });
  }

  /** Sends what guests gave in this turn. */
  flush(): void {
    if (this.#given.length === 0) return;
    const given = this.#given;
    this.#given = [];
    for (const { realm, out, number, text, bytes } of given) this.#give(realm, out, number, text, bytes);
  }

  /** A frame of the runner's. */
  receive(kind: number, payload: Buffer): void {
    const key = payload.toString('latin1', 0, STREAM_ID_BYTES);
    const data = payload.subarray(STREAM_ID_BYTES);
    if (kind === FrameKind.streamCredit) return this.#credit(key, data.readUInt32BE(0));
    const incoming = this.#incoming.get(key);
    if (kind !== FrameKind.streamData) this.#incoming.delete(key);
    if (incoming !== undefined && 'collector' in incoming) this.#collect(key, incoming, kind, data);
    else if (incoming !== undefined) this.#pass(incoming, kind, data);
    if (kind === FrameKind.streamReset) this.#stop(key);
  }

  #give(realm: Realm, out: number, number: number, text: string, bytes: Buffer | undefined): void {
    const name = `${out === Out.streamCredit ? 'in' : 'out'} ${number}`;
    const key = this.#keys.get(realm)?.get(name);
    if (key === undefined) return;
    const id = Buffer.from(key, 'latin1');
    switch (out) {
      case Out.streamCredit:
        return this.#options.send(FrameKind.streamCredit, id, u32(Number(text)));
      case Out.streamData:
        return this.#options.send(FrameKind.streamData, id, bytes ?? EMPTY);
      default:
        this.#outgoing.delete(key);
        this.#options.send(out === Out.streamEnd ? FrameKind.streamEnd : FrameKind.streamReset, id, Buffer.from(text));
        this.#forget(realm, name);
    }
  }

  #collect(key: string, { collector, pieces, ...rest }: Collected, kind: number, data: Buffer): void {
    if (kind === FrameKind.streamReset) return collector.onBroken(data.toString());
    if (kind === FrameKind.streamEnd)
      return collector.onWhole(pieces.length === 1 ? (pieces[0] ?? EMPTY) : Buffer.concat(pieces));
    pieces.push(data);
    const unacknowledged = rest.unacknowledged + data.length;
    const isDue = unacknowledged >= STREAM_STEP_BYTES;
    this.#incoming.set(key, { collector, pieces, unacknowledged: isDue ? 0 : unacknowledged });
    if (isDue) this.#options.send(FrameKind.streamCredit, Buffer.from(key, 'latin1'), u32(unacknowledged));
  }

  #pass({ realm, number }: Guested, kind: number, data: Buffer): void {
    this.#options.onWork(realm);
    const { guest } = realm;
    try {
      if (kind === FrameKind.streamData) {
        writeBytes(realm, data);
        guest.stream(StreamEvent.data, number, 0, '');
      } else if (kind === FrameKind.streamEnd) guest.stream(StreamEvent.end, number, 0, '');
      else guest.stream(StreamEvent.break, number, 0, data.toString());
    } catch {
      // A guest's value, never looked at.
    }
    if (kind !== FrameKind.streamData) this.#forget(realm, `in ${number}`);
  }

  #credit(key: string, bytes: number): void {
    const outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) return;
    if ('bytes' in outgoing) {
      outgoing.credit += bytes;
      return this.#pump(key, outgoing);
    }
    this.#options.onWork(outgoing.realm);
    try {
      outgoing.realm.guest.stream(StreamEvent.credit, outgoing.number, bytes, '');
    } catch {
      // As above.
    }
  }

  /** Nobody takes the body of the answer any more. */
  #stop(key: string): void {
    const outgoing = this.#outgoing.get(key);
    this.#outgoing.delete(key);
    if (outgoing === undefined || 'bytes' in outgoing) return;
    const { realm, number } = outgoing;
    this.#options.onWork(realm);
    try {
      realm.guest.stream(StreamEvent.stop, number, 0, '');
    } catch {
      // As above.
    }
    this.#forget(realm, `out ${number}`);
  }

  #pump(key: string, held: Held): void {
    if (this.#outgoing.get(key) !== held) return;
    const id = Buffer.from(key, 'latin1');
    const { bytes } = held;
    while (held.credit > 0 && held.at < bytes.length) {
      const piece = bytes.subarray(held.at, held.at + STREAM_FRAME_BYTES);
      held.at += piece.length;
      held.credit -= piece.length;
      this.#options.send(FrameKind.streamData, id, piece);
    }
    if (held.at < bytes.length) return;
    this.#outgoing.delete(key);
    this.#options.send(FrameKind.streamEnd, id);
  }

  #know(realm: Realm, name: string, key: string): void {
    const keys = this.#keys.get(realm);
    if (keys === undefined) this.#keys.set(realm, new Map([[name, key]]));
    else keys.set(name, key);
  }

  #forget(realm: Realm, name: string): void {
    const keys = this.#keys.get(realm);
    if (keys?.delete(name) !== true || keys.size > 0) return;
    this.#keys.delete(realm);
    this.#options.onIdle(realm);
  }
}

function keyOf(id: Buffer): string {
  return id.toString('latin1', 0, STREAM_ID_BYTES);
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const EMPTY = Buffer.alloc(0);
