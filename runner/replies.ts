import type { Broker, PublishOutcome } from '../core/broker/broker.ts';
import type { ClusterClock } from '../core/clock.ts';
import { backoffMs } from '../core/deadline.ts';
import { ERRORS, type ErrorCode } from '../core/errors.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import { encodeReplies, Envelope, ReplyFlag, type ReplyRecord } from '../core/wire/envelope.ts';
import type { Address, HeldCall } from './call.ts';
import { timingOf } from './call-timing.ts';

/** Addresses kept although no call is held for them; above that the idle ones are forgotten. */
const IDLE_ADDRESSES = 1_000;
/** How long an answer is tried again after the broker was lost, at most, when its calls' deadlines are later. */
const REPLY_RETRY_MS = 60_000;

/** Counts of what became of answers. */
export interface ReplyCounts {
  /** The frontend was gone. */
  returned: number;
  /** The broker was away until nobody waited any more. */
  lost: number;
}

/** Sends answers to where their calls came from, and settles the calls when the broker has confirmed them. */
export class Replies implements Closable {
  readonly counts: ReplyCounts = { returned: 0, lost: 0 };
  readonly #broker: Broker;
  readonly #clock: ClusterClock;
  readonly #byQueue = new Map<string, Address>();
  readonly #byTag = new Map<number, Address>();
  readonly #stop = new AbortController();
  #lastTag = 0;

  constructor(broker: Broker, clock: ClusterClock) {
    this.#broker = broker;
    this.#clock = clock;
  }

  /** The address of a reply queue. */
  ofQueue(queue: string): Address {
    const known = this.#byQueue.get(queue);
    if (known !== undefined) return known;
    if (this.#byQueue.size >= IDLE_ADDRESSES) this.#forgetIdle();
    const address = this.add((answers) => this.#publish(queue, address, answers), queue);
    this.#byQueue.set(queue, address);
    return address;
  }

  /** A new address with a delivery of its own. */
  add(deliver: Address['deliver'], queue?: string): Address {
    const address: Address = { tag: ++this.#lastTag, queue, calls: new Map(), deliver };
    this.#byTag.set(address.tag, address);
    return address;
  }

  /** Forgets an address of `add`, for which no call is held any more. */
  remove(address: Address): void {
    this.#byTag.delete(address.tag);
  }

  /** How many addresses there are beside those of reply queues. */
  get others(): number {
    return this.#byTag.size - this.#byQueue.size;
  }

  ofTag(tag: number): Address | undefined {
    return this.#byTag.get(tag);
  }

  /** The calls with this id that are held here: one, or none; several where callers chose their ids themselves. */
  *holding(id: Buffer): Generator<HeldCall> {
    const tail = id.readUInt32BE(id.length - 4);
    for (const address of this.#byTag.values()) {
      const call = address.calls.get(tail);
      if (call?.id.equals(id) === true) yield call;
    }
  }

  /** Sends answers to calls that are `answered`; settles them when nothing more can be done for them. */
  send(address: Address, answers: Envelope): void {
    void this.#deliver(address, answers);
  }

  /** Answers calls with an error of the table, in the runner's own words. */
  fail(calls: readonly HeldCall[], code: ErrorCode, message: string): void {
    const records = new Map<Address, ReplyRecord[]>();
    for (const call of calls) {
      call.state = 'answered';
      call.batch.address.calls.set(call.tail, call);
      const record = failedReply(call, code, message, this.#clock.offsetMs);
      const list = records.get(call.batch.address);
      if (list === undefined) records.set(call.batch.address, [record]);
      else list.push(record);
    }
    for (const [address, list] of records) this.send(address, new Envelope(encodeReplies(list)));
  }

  /** Gives up on answers the broker would not take. */
  close(): Promise<void> {
    this.#stop.abort();
    return Promise.resolve();
  }

  async #deliver(address: Address, answers: Envelope): Promise<void> {
    const outcome = await address.deliver(answers);
    if (outcome === 'returned') this.counts.returned += answers.count;
    else if (outcome !== 'accepted') this.counts.lost += answers.count;
    for (let index = 0; index < answers.count; index++) {
      const call = address.calls.get(answers.idTail(index));
      if (call?.state === 'answered') call.settle();
    }
  }

  /** Publishes until the broker says yes, the frontend is gone, or nobody waits any more. */
  async #publish(queue: string, address: Address, answers: Envelope): Promise<PublishOutcome> {
    let giveUpAt: number | undefined;
    for (let attempt = 0; ; attempt++) {
      const outcome = await this.#broker.publish({
        exchange: '',
        routingKey: queue,
        body: answers.buffer,
        properties: REPLY_PROPERTIES,
        mandatory: true,
      });
      if (outcome === 'accepted' || outcome === 'returned') return outcome;
      giveUpAt ??= lastDeadline(address, answers, this.#clock.now());
      await delay(backoffMs(attempt, 20, 1_000), this.#stop.signal);
      await this.#broker.ready(AbortSignal.any([this.#stop.signal, AbortSignal.timeout(1_000)]));
      if (this.#stop.signal.aborted || this.#clock.now() > giveUpAt) return outcome;
    }
  }

  #forgetIdle(): void {
    for (const [queue, address] of this.#byQueue) {
      if (address.calls.size > 0) continue;
      this.#byQueue.delete(queue);
      this.#byTag.delete(address.tag);
    }
  }
}

const REPLY_PROPERTIES = { contentType: 'application/x-funcatron', type: 'replies' } as const;

function lastDeadline(address: Address, answers: Envelope, now: number): number {
  let last = now;
  for (let index = 0; index < answers.count; index++) {
    last = Math.max(last, address.calls.get(answers.idTail(index))?.deadline ?? 0);
  }
  return Math.min(last, now + REPLY_RETRY_MS);
}

/** A failed reply, as the edge expects it: see `FailedReply`. */
function failedReply(call: HeldCall, code: ErrorCode, message: string, offsetMs: number): ReplyRecord {
  const { status } = ERRORS[code];
  return {
    id: call.id,
    status,
    flags: ReplyFlag.failed,
    ...timingOf(call, offsetMs),
    meta: '',
    body: JSON.stringify({ code, message, ...(status === 503 ? { data: { retryAfterS: 1 } } : {}) }),
  };
}
