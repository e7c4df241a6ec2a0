import type { QueueSpec } from '../wire/topology.ts';
import type { QueueCounts } from './broker.ts';
import { Deque } from './memory-deque.ts';
import type { Entry, Message, QueueOwner, Receiver } from './memory-entry.ts';
import { readPolicy, type QueuePolicy } from './memory-policy.ts';

/** The longest wait a timer of Node can do, in ms. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Deliveries of one queue in one turn of the event loop; more wait for the next, so that sockets get their turn. */
const DELIVERIES_PER_TURN = 512;

/** One queue, with RabbitMQ's semantics for the arguments `core/wire/topology.ts` uses. Limits count what is ready, not what is delivered and unacknowledged. */
export class MemoryQueue {
  readonly spec: QueueSpec;
  readonly policy: QueuePolicy;
  /** Itself, as the route of the default exchange. */
  readonly asRoute: readonly MemoryQueue[] = [this];
  readonly #owner: QueueOwner;
  readonly #ready = new Deque<Entry>();
  readonly #receivers: Receiver[] = [];
  #readyBytes = 0;
  /** Room promised to messages that are being written to the journal. */
  #reserved = 0;
  #reservedBytes = 0;
  #lastPosition = 0;
  #nextReceiver = 0;
  #headTimer: NodeJS.Timeout | undefined;
  #headTimerAt = Infinity;
  #useTimer: NodeJS.Timeout | undefined;
  #usedAt: number;
  #isStopped = false;

  constructor(spec: QueueSpec, owner: QueueOwner) {
    this.spec = spec;
    this.policy = readPolicy(spec);
    this.#owner = owner;
    this.#usedAt = owner.now();
    this.#watchUse();
  }

  counts(): QueueCounts {
    this.#dropExpired();
    return { messages: this.#ready.length, consumers: this.#receivers.length };
  }

  /** Whether a message has to be in the journal before it is accepted. Quorum queues keep transient messages, too. */
  keeps(message: Message): boolean {
    return this.spec.durable && (message.properties.persistent === true || this.policy.isQuorum);
  }

  expiryOf(message: Message): number {
    const ttlMs = Math.min(this.policy.ttlMs, message.properties.expirationMs ?? Infinity);
    return ttlMs === Infinity ? Infinity : this.#owner.now() + ttlMs;
  }

  /** Promises room for a message, or says no because the queue is full and refuses (`reject-publish`). */
  reserve(bytes: number): boolean {
    if (this.policy.overflow === 'reject-publish' && this.#isFullFor(bytes)) return false;
    this.#reserved += 1;
    this.#reservedBytes += bytes;
    return true;
  }

  unreserve(bytes: number): void {
    this.#reserved -= 1;
    this.#reservedBytes -= bytes;
  }

  /** Adds to the tail. */
  push(entry: Entry): void {
    entry.position = ++this.#lastPosition;
    this.#ready.push(entry);
    this.#readyBytes += entry.message.body.length;
    this.#owner.wake(this);
  }

  /** Takes back what a consumer died with, to where it stood; one that came back too often is discarded. */
  requeue(entries: readonly Entry[]): void {
    if (this.#isStopped) {
      for (const entry of entries) this.#owner.release(entry);
      return;
    }
    const returned: Entry[] = [];
    for (const entry of entries) {
      entry.redelivered = true;
      entry.returns += 1;
      if (entry.returns > this.policy.deliveryLimit) this.#owner.discard(this, entry);
      else {
        returned.push(entry);
        this.#owner.returned(entry);
      }
    }
    const last = returned.reduce((most, entry) => Math.max(most, entry.position), 0);
    for (let head = this.#ready.peek(); head !== undefined && head.position < last; head = this.#ready.peek()) {
      returned.push(head);
      this.#shift();
    }
    returned.sort((a, b) => b.position - a.position);
    for (const entry of returned) this.#unshift(entry);
    this.#owner.wake(this);
  }

  /** A consumer refused it: it is discarded, unless it went with its queue already. */
  reject(entry: Entry): void {
    if (this.#isStopped) this.#owner.release(entry);
    else this.#owner.discard(this, entry);
  }

  /** Takes the first message that has not expired. */
  take(): Entry | undefined {
    this.touch();
    this.#dropExpired();
    return this.#shift();
  }

  /** Delivers in turn to every consumer with room. Returns true when it stopped only so that others get their turn. */
  pump(): boolean {
    this.#dropExpired();
    for (let left = DELIVERIES_PER_TURN; this.#ready.length > 0; left--) {
      const receiver = this.#freeReceiver();
      if (receiver === undefined) break;
      if (left === 0) return true;
      const entry = this.#shift();
      if (entry !== undefined) receiver.deliver(entry);
      this.#dropExpired();
    }
    this.#dropOverflow();
    this.#watchHead();
    return false;
  }

  addReceiver(receiver: Receiver): void {
    this.#receivers.push(receiver);
    this.touch();
    this.#owner.wake(this);
  }

  removeReceiver(receiver: Receiver): void {
    const index = this.#receivers.indexOf(receiver);
    if (index < 0) return;
    this.#receivers.splice(index, 1);
    this.touch();
  }

  /** It was used: `x-expires` counts from now. */
  touch(): void {
    this.#usedAt = this.#owner.now();
    this.#watchUse();
  }

  /** Empties it and stops its timers; its receivers learn that it is gone. Returns what was ready, for the owner to release. */
  delete(): readonly Entry[] {
    this.stop();
    const entries = [...this.#ready];
    this.#ready.clear();
    this.#readyBytes = 0;
    for (const receiver of this.#receivers.splice(0)) receiver.queueGone();
    return entries;
  }

  /** Stops its timers for good. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#headTimer);
    clearTimeout(this.#useTimer);
  }

  /** Limits are about what waits: what free consumers take at once never waits in RabbitMQ either. */
  #isFullFor(bytes: number): boolean {
    const { maxLength, maxBytes } = this.policy;
    const count = this.#ready.length + this.#reserved;
    const total = this.#readyBytes + this.#reservedBytes;
    if (count < maxLength && total + bytes <= maxBytes) return false;
    const waiting = Math.max(0, count - this.#room());
    return waiting >= maxLength || (waiting === 0 ? 0 : total) + bytes > maxBytes;
  }

  #room(): number {
    let room = 0;
    for (const receiver of this.#receivers) room += receiver.room;
    return room;
  }

  /** Round robin over those with room. */
  #freeReceiver(): Receiver | undefined {
    const count = this.#receivers.length;
    for (let i = 0; i < count; i++) {
      const index = (this.#nextReceiver + i) % count;
      const receiver = this.#receivers[index];
      if (receiver === undefined || receiver.room <= 0) continue;
      this.#nextReceiver = (index + 1) % count;
      return receiver;
    }
    return undefined;
  }

  #shift(): Entry | undefined {
    const entry = this.#ready.shift();
    if (entry !== undefined) this.#readyBytes -= entry.message.body.length;
    return entry;
  }

  #unshift(entry: Entry): void {
    this.#ready.unshift(entry);
    this.#readyBytes += entry.message.body.length;
  }

  /** Only at the head, as in RabbitMQ: what expired behind a live head waits there and counts. */
  #dropExpired(): void {
    for (let head = this.#ready.peek(); head !== undefined && head.expiresAt !== Infinity; head = this.#ready.peek()) {
      if (head.expiresAt > this.#owner.now()) return;
      this.#shift();
      this.#owner.discard(this, head);
    }
  }

  /** `drop-head`: the oldest go. */
  #dropOverflow(): void {
    if (this.policy.overflow !== 'drop-head') return;
    const { maxLength, maxBytes } = this.policy;
    while (this.#ready.length > maxLength || this.#readyBytes > maxBytes) {
      const entry = this.#shift();
      if (entry !== undefined) this.#owner.discard(this, entry);
    }
  }

  /** Wakes when the head expires, so that it is dead-lettered on time without a consumer: that is how retries wait. */
  #watchHead(): void {
    const at = this.#ready.peek()?.expiresAt ?? Infinity;
    if (this.#isStopped || at === Infinity || (this.#headTimer !== undefined && this.#headTimerAt <= at)) return;
    clearTimeout(this.#headTimer);
    this.#headTimerAt = at;
    this.#headTimer = startTimer(at - this.#owner.now(), () => {
      this.#headTimer = undefined;
      this.#dropExpired();
      this.#watchHead();
    });
  }

  #watchUse(): void {
    const { expiresMs } = this.policy;
    if (this.#isStopped || expiresMs === Infinity || this.#useTimer !== undefined) return;
    this.#useTimer = startTimer(this.#usedAt + expiresMs - this.#owner.now(), () => {
      this.#useTimer = undefined;
      // With consumers it is in use; the last one to leave starts the clock again.
      if (this.#receivers.length > 0) return;
      if (this.#usedAt + expiresMs <= this.#owner.now()) this.#owner.expire(this);
      else this.#watchUse();
    });
  }
}

function startTimer(delayMs: number, wake: () => void): NodeJS.Timeout {
  return setTimeout(wake, Math.min(Math.max(Math.ceil(delayMs), 1), LONGEST_TIMER_MS));
}
