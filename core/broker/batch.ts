import type { WheelEntry } from '../deadline.ts';
import { CALL_RECORD_BYTES, HEADER_BYTES, type CallRecord, type Envelope } from '../wire/envelope.ts';

/** A lane takes no more calls into a batch once it is this long: 1 MiB plus one call is the most that crosses the queue. */
const MAX_BATCH_BYTES = 1024 * 1024;

/**
 * How a call ended when there was no reply.
 * `timeout` its deadline passed; `refused` the queue or a bound here is full; `returned` the queue does not exist;
 * `down` the broker cannot be reached; `unknown` the broker lost the call or its reply, and it may not run twice.
 * `refused`, `returned` and `down` mean that it never ran.
 */
export type RpcFailure = 'timeout' | 'refused' | 'returned' | 'down' | 'unknown';

/** Who made a call. Exactly one of the two is called, once, unless the call is cancelled first. Must not throw. */
export interface RpcCaller {
  /** The reply is record `index` of the envelope; meta and body are views of its buffer. */
  onReply(envelope: Envelope, index: number): void;
  onFailure(failure: RpcFailure): void;
}

/**
 * One call that waits for its reply.
 * States: `gathered` (in a lane) → `published` → `settled`; a published call whose broker restarted is gathered again.
 */
export class RpcCall implements CallRecord, WheelEntry {
  readonly id: Buffer;
  readonly deadline: number;
  readonly operation: number;
  readonly flags: number;
  meta: Buffer | string;
  body: Buffer | undefined;
  readonly target: RpcTarget;
  caller: RpcCaller;
  attempt = 1;
  tick = 0;
  state: 'gathered' | 'published' | 'settled' = 'gathered';
  /** What it was last published with: the outcome of an earlier publish no longer concerns it. */
  batch: readonly RpcCall[] | undefined;
  readonly #onExpire: (call: RpcCall) => void;

  constructor(
    target: RpcTarget,
    record: Omit<CallRecord, 'attempt'>,
    caller: RpcCaller,
    onExpire: (call: RpcCall) => void,
  ) {
    this.target = target;
    this.id = record.id;
    this.deadline = record.deadline;
    this.operation = record.operation;
    this.flags = record.flags;
    this.meta = record.meta;
    this.body = record.body;
    this.caller = caller;
    this.#onExpire = onExpire;
  }

  /** The last 32 bits of its id: see `writeId`. */
  get tail(): number {
    return this.id.readUInt32BE(12);
  }

  /** Bytes it holds in memory and on the wire; a meta that is a string counts its characters. */
  get bytes(): number {
    return CALL_RECORD_BYTES + this.meta.length + (this.body?.length ?? 0);
  }

  expire(): void {
    this.#onExpire(this);
  }

  /**
   * Lets go of everything but itself, and returns its caller. A settled call stays reachable for a while from the old
   * tables a `Map` leaves behind as it is rehashed, each of which points to the next: when one of them is promoted,
   * all after it survive until the next major collection, and with them their requests and responses.
   */
  release(): RpcCaller {
    const { caller } = this;
    this.state = 'settled';
    this.caller = NOBODY;
    this.batch = undefined;
    this.meta = '';
    this.body = undefined;
    return caller;
  }
}

const NOBODY: RpcCaller = { onReply: () => {}, onFailure: () => {} };

/** Turns of the event loop a lane may go on growing for. */
const MAX_TURNS = 8;

/** Calls for one queue and one timeout class that will leave in one message. */
export class Lane {
  readonly target: RpcTarget;
  /** Whether it will be emptied at the end of this turn. */
  isDue = false;
  /** Messages of it the broker has not confirmed yet. */
  unconfirmed = 0;
  #calls: RpcCall[] = [];
  #bytes = HEADER_BYTES;
  /** Turns it was looked at in, and how many calls it held the last time. */
  #turns = 0;
  #seen = 0;

  constructor(target: RpcTarget) {
    this.target = target;
  }

  get size(): number {
    return this.#calls.length;
  }

  get isFull(): boolean {
    return this.#calls.length >= this.target.batchMax || this.#bytes >= MAX_BATCH_BYTES;
  }

  add(call: RpcCall): void {
    this.#calls.push(call);
    this.#bytes += call.bytes;
  }

  /** At the end of a turn: whether calls came in it, so that more may come in the next one. */
  isGrowing(): boolean {
    const calls = this.#calls.length;
    if (calls === this.#seen || ++this.#turns > MAX_TURNS) return false;
    this.#seen = calls;
    return true;
  }

  /** Takes what was gathered, without those settled meanwhile, and leaves the lane empty. */
  take(): RpcCall[] {
    const calls = this.#calls;
    this.#calls = [];
    this.#bytes = HEADER_BYTES;
    this.#turns = 0;
    this.#seen = 0;
    return calls.every(isUnsettled) ? calls : calls.filter(isUnsettled);
  }
}

function isUnsettled(call: RpcCall): boolean {
  return call.state !== 'settled';
}

/**
 * Where calls go: one queue. Calls whose remaining times differ by more than a factor of two travel in different
 * messages, because a message expires as a whole, with its longest-lived call.
 */
export class RpcTarget {
  readonly queue: string;
  /** Most calls one message may hold. */
  readonly batchMax: number;
  readonly #lanes: (Lane | undefined)[] = [];

  constructor(queue: string, batchMax: number) {
    this.queue = queue;
    this.batchMax = Math.max(1, batchMax);
  }

  /** The lane of calls that have about `remainingMs` left. */
  lane(remainingMs: number): Lane {
    const timeoutClass = 31 - Math.clz32(remainingMs | 1);
    return (this.#lanes[timeoutClass] ??= new Lane(this));
  }
}
