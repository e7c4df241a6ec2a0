import { STREAM_ID_BYTES } from '../../../core/wire/direct.ts';
import { Out, STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES, STREAM_STEP_BYTES, StreamEvent } from '../bridge.ts';
import { FrameKind } from '../channel.ts';
import type { SendFrame } from './bundle-host.ts';
import { JoinedPieces } from './joined-pieces.ts';
import type { Realm } from './realm.ts';
import { readBytes, streamBytes } from './window.ts';

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
  /** Bytes for which no credit has been given yet. */
  unacknowledged: number;
}

/** A body that a guest reads, or makes, under a number of its realm's. */
interface Guested {
  readonly realm: Realm;
  readonly number: number;
}

/** What a number of a realm's stands for. */
interface Known {
  readonly key: string;
  /** The end of the time for cleaning up. It holds the realm, so it must not outlive what it is for. */
  timer?: NodeJS.Timeout;
}

/** A piece of a body, or an event of one, as a guest gave it. */
interface Given {
  readonly realm: Realm;
  readonly out: number;
  readonly number: number;
  readonly text: string;
  readonly bytes: Buffer | undefined;
}

/** How long a func may take to clean up after a body that nobody reads on; then its realm may go. */
const CLEAN_UP_MS = 5_000;

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
  /** What each number stands for that a realm knows. */
  readonly #known = new Map<Realm, Map<string, Known>>();
  /** What guests gave in this turn, in order: it leaves behind the answers it belongs to. */
  #given: Given[] = [];
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
    this.answered(id);
    // Behind the answer.
    setImmediate(() => this.#pump(keyOf(id), held));
  }

  /** The body of an answer is what the guest makes under this number. */
  sendFrom(id: Buffer, realm: Realm, number: number): void {
    this.#outgoing.set(keyOf(id), { realm, number });
    this.#know(realm, `out ${number}`, keyOf(id));
  }

  /** Nobody takes the body of the answer any more: what makes it is told to clean up. */
  stop(id: Buffer): void {
    this.#stop(keyOf(id));
  }

  /** The answer to a call is complete: what has not come of the call's own body is not waited for. */
  answered(id: Buffer): void {
    this.#letGo(keyOf(id));
  }

  /** Whether bodies of the realm's are on their way. */
  has(realm: Realm): boolean {
    return this.#known.has(realm);
  }

  /** Takes what a guest has handed out: see `Out`. */
  take(realm: Realm, out: number, number: number, text: string): void {
    this.#given.push({ realm, out, number, text, bytes: readBytes(realm) });
  }

  /** Sends what guests gave in this turn: pieces of one body together, up to the length of a frame. */
  flush(): void {
    if (this.#given.length === 0) return;
    const given = this.#given;
    this.#given = [];
    const joined = new JoinedPieces();
    for (const [index, event] of given.entries()) {
      const { realm, out, number, text, bytes } = event;
      if (out !== Out.streamData) {
        this.#give(event);
        continue;
      }
      joined.add(text, bytes);
      const next = given[index + 1];
      const isSame = next?.out === out && next.number === number && next.realm === realm;
      if (isSame && joined.bytes + JoinedPieces.sizeOf(next.text, next.bytes) <= STREAM_FRAME_BYTES) continue;
      this.#send(realm, number, joined.take());
    }
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

  #send(realm: Realm, number: number, piece: Buffer): void {
    const key = this.#known.get(realm)?.get(`out ${number}`)?.key;
    if (key !== undefined && this.#isFrom(key, realm, number)) {
      this.#options.send(FrameKind.streamData, idOf(key), piece);
    }
  }

  #give({ realm, out, number, text }: Given): void {
    const name = `${out === Out.streamCredit ? 'in' : 'out'} ${number}`;
    const key = this.#known.get(realm)?.get(name)?.key;
    if (key === undefined) return;
    if (out === Out.streamCredit) return this.#options.send(FrameKind.streamCredit, idOf(key), u32(Number(text)));
    // One that was stopped says that it has cleaned up: nobody waits for its end.
    if (this.#isFrom(key, realm, number)) {
      this.#outgoing.delete(key);
      this.#options.send(
        out === Out.streamEnd ? FrameKind.streamEnd : FrameKind.streamReset,
        idOf(key),
        Buffer.from(text),
      );
      this.#letGo(key);
    }
    this.#forget(realm, name);
  }

  #isFrom(key: string, realm: Realm, number: number): boolean {
    const outgoing = this.#outgoing.get(key);
    return outgoing !== undefined && 'realm' in outgoing && outgoing.realm === realm && outgoing.number === number;
  }

  #letGo(key: string): void {
    const incoming = this.#incoming.get(key);
    this.#incoming.delete(key);
    if (incoming !== undefined && 'realm' in incoming) this.#pass(incoming, FrameKind.streamReset, ANSWERED);
  }

  #collect(key: string, collected: Collected, kind: number, data: Buffer): void {
    const { collector, pieces } = collected;
    if (kind === FrameKind.streamReset) return collector.onBroken(data.toString());
    if (kind === FrameKind.streamEnd) {
      return collector.onWhole(pieces.length === 1 ? (pieces[0] ?? EMPTY) : Buffer.concat(pieces));
    }
    // It is only lent.
    pieces.push(Buffer.from(data));
    collected.unacknowledged += data.length;
    if (collected.unacknowledged < STREAM_STEP_BYTES) return;
    this.#options.send(FrameKind.streamCredit, idOf(key), u32(collected.unacknowledged));
    collected.unacknowledged = 0;
  }

  #pass({ realm, number }: Guested, kind: number, data: Buffer): void {
    if (kind === FrameKind.streamData) return this.#hand(realm, number, data);
    if (kind === FrameKind.streamEnd) this.#tell(realm, StreamEvent.end, number);
    else this.#tell(realm, StreamEvent.break, number, 0, data.toString());
    this.#forget(realm, `in ${number}`);
  }

  #credit(key: string, bytes: number): void {
    const outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) return;
    if ('realm' in outgoing) return this.#tell(outgoing.realm, StreamEvent.credit, outgoing.number, bytes);
    outgoing.credit += bytes;
    this.#pump(key, outgoing);
  }

  /** The realm stays until the guest says that it has cleaned up, but not for ever. */
  #stop(key: string): void {
    const outgoing = this.#outgoing.get(key);
    this.#outgoing.delete(key);
    if (outgoing === undefined || 'bytes' in outgoing) return;
    const { realm, number } = outgoing;
    this.#tell(realm, StreamEvent.stop, number);
    const name = `out ${number}`;
    const known = this.#known.get(realm)?.get(name);
    if (known === undefined) return;
    known.timer = setTimeout(() => {
      this.#options.onWork(realm);
      this.#forget(realm, name);
    }, CLEAN_UP_MS);
  }

  #hand(realm: Realm, number: number, data: Buffer): void {
    this.#options.onWork(realm);
    try {
      streamBytes(realm, number, data);
    } catch {
      // A guest's value, never looked at.
    }
  }

  #tell(realm: Realm, event: number, number: number, bytes = 0, text = ''): void {
    this.#options.onWork(realm);
    try {
      realm.guest.stream(event, number, bytes, text);
    } catch {
      // A guest's value, never looked at.
    }
  }

  #pump(key: string, held: Held): void {
    if (this.#outgoing.get(key) !== held) return;
    const id = idOf(key);
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
    const names = this.#known.get(realm);
    if (names === undefined) this.#known.set(realm, new Map([[name, { key }]]));
    else names.set(name, { key });
  }

  #forget(realm: Realm, name: string): void {
    const names = this.#known.get(realm);
    const known = names?.get(name);
    if (names === undefined || known === undefined) return;
    clearTimeout(known.timer);
    names.delete(name);
    if (names.size > 0) return;
    this.#known.delete(realm);
    this.#options.onIdle(realm);
  }
}

function keyOf(id: Buffer): string {
  return id.toString('latin1', 0, STREAM_ID_BYTES);
}

function idOf(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const EMPTY = Buffer.alloc(0);
const ANSWERED = Buffer.from('the call has been answered');
