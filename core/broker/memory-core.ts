import type { Log } from '../log.ts';
import { MAX_BODY_BYTES, type OutgoingMessage, type PublishOutcome } from './broker.ts';
import type { Entry, Message, QueueOwner } from './memory-entry.ts';
import type { Journal } from './memory-journal.ts';
import type { MemoryQueue } from './memory-queue.ts';
import { MemoryRouting } from './memory-routing.ts';

/** How long acknowledgements wait for a transaction to share, in ms: after a crash in between they come back, redelivered. */
const ACK_DELAY_MS = 50;
const ACKS_PER_COMMIT = 1_000;
/** How often a dead letter that no queue took is tried again, and acknowledgements that could not be written, in ms. */
const RETRY_MS = 1_000;
const NO_QUEUES: readonly MemoryQueue[] = [];

/** A message on its way in: published, or dead-lettered by one of our own queues. */
interface Publish {
  readonly message: Message;
  readonly isMandatory: boolean;
  readonly settle: ((outcome: PublishOutcome) => void) | undefined;
  /** What it was before it was dead-lettered: kept until a queue took it. */
  readonly origin: { readonly entry: Entry; readonly isAtLeastOnce: boolean } | undefined;
  outcome: PublishOutcome;
  queues: readonly MemoryQueue[];
  /** One for each of `queues`; `undefined` where it was full. */
  entries: (Entry | undefined)[];
}

/**
 * The broker itself, shared by the handles of one process. It works once a turn of the event loop, however many
 * messages came in: route and reserve room → one journal transaction → into the queues, outcomes → deliveries.
 * So a message that has to be durable is never delivered before it is, order within a queue is the order of
 * publishing, and nobody is called back inside their own call.
 */
export class MemoryCore implements QueueOwner {
  readonly routing: MemoryRouting;
  readonly #journal: Journal | undefined;
  readonly #maxBytes: number;
  readonly #log: Log;
  #incoming: Publish[] = [];
  #awake = new Set<MemoryQueue>();
  #turn: NodeJS.Immediate | undefined;
  #ackTimer: NodeJS.Timeout | undefined;
  #stuck: Publish[] = [];
  #stuckTimer: NodeJS.Timeout | undefined;
  #heldBytes = 0;
  #isClosed = false;

  /** @param options.maxBytes bodies held at once, in all queues together; what is published beyond is `refused` */
  constructor(options: { journal: Journal | undefined; maxBytes: number; log: Log }) {
    this.#journal = options.journal;
    this.#maxBytes = options.maxBytes;
    this.#log = options.log;
    this.routing = new MemoryRouting(this, this.#journal);
    if (this.#journal !== undefined) this.#restore(this.#journal);
  }

  /** Unix ms that never go back: a clock set by hand expires nothing. */
  now(): number {
    return performance.timeOrigin + performance.now();
  }

  publish({ exchange, routingKey, body, properties: given, mandatory }: OutgoingMessage): Promise<PublishOutcome> {
    if (body.length > MAX_BODY_BYTES) return Promise.resolve('refused');
    const { expirationMs } = given;
    // As on the wire to RabbitMQ: a whole number from 1.
    const properties =
      expirationMs === undefined || (Number.isInteger(expirationMs) && expirationMs >= 1)
        ? given
        : { ...given, expirationMs: expirationMs >= 1 ? Math.trunc(expirationMs) : 1 };
    return new Promise((settle) => {
      this.#take({ exchange, routingKey, body, properties }, mandatory === true, settle, undefined);
    });
  }

  /** Returns the messages it held. @throws BROKER_DOWN when the journal cannot be written */
  deleteQueue(name: string): number {
    const queue = this.routing.remove(name);
    if (queue === undefined) return 0;
    this.#awake.delete(queue);
    const entries = queue.delete();
    for (const entry of entries) this.#heldBytes -= entry.message.body.length;
    return entries.length;
  }

  wake(queue: MemoryQueue): void {
    this.#awake.add(queue);
    this.#schedule();
  }

  expire(queue: MemoryQueue): void {
    const { name } = queue.spec;
    try {
      this.deleteQueue(name);
      this.#log.debug({ queue: name }, 'an unused queue expired');
    } catch (error) {
      this.#log.warn({ err: error, queue: name }, 'an unused queue could not be deleted; trying again later');
      queue.touch();
    }
  }

  /** The broker is through with an entry. */
  release(entry: Entry): void {
    this.#heldBytes -= entry.message.body.length;
    if (entry.journalId === 0 || this.#journal === undefined) return;
    this.#journal.delete(entry.journalId);
    this.#ackTimer ??= setTimeout(() => this.#commitAcks(), ACK_DELAY_MS);
  }

  returned(entry: Entry): void {
    if (entry.journalId !== 0) this.#journal?.markRedelivered(entry.journalId);
  }

  discard(queue: MemoryQueue, entry: Entry): void {
    const policy = queue.policy.deadLetter;
    if (policy === undefined) {
      this.release(entry);
      return;
    }
    // RabbitMQ takes the expiration off: it would expire again where it is to be kept.
    const { expirationMs: _expirationMs, ...properties } = entry.message.properties;
    const routingKey = policy.routingKey ?? entry.message.routingKey;
    const message = { exchange: policy.exchange, routingKey, body: entry.message.body, properties };
    this.#take(message, true, undefined, { entry, isAtLeastOnce: policy.isAtLeastOnce });
  }

  /** Settles what was published, writes what was acknowledged, and stops. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    clearImmediate(this.#turn);
    this.#work();
    this.#isClosed = true;
    // A dead letter that set off only now is still where it was, in the journal.
    clearImmediate(this.#turn);
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#stuckTimer);
    for (const queue of this.routing.queues) queue.stop();
    this.#journal?.close();
  }

  #restore(journal: Journal): void {
    const content = journal.load();
    this.routing.restore(content);
    for (const { id, queue: name, message, expiresAt, redelivered } of content.messages) {
      const queue = this.routing.queue(name);
      this.#heldBytes += message.body.length;
      const entry = { message, journalId: id, expiresAt, redelivered, position: 0, returns: 0 };
      if (queue === undefined) this.release(entry);
      else queue.push(entry);
    }
  }

  #take(message: Message, isMandatory: boolean, settle: Publish['settle'], origin: Publish['origin']): void {
    this.#incoming.push({ message, isMandatory, settle, origin, outcome: 'accepted', queues: NO_QUEUES, entries: [] });
    this.#schedule();
  }

  #schedule(): void {
    this.#turn ??= setImmediate(() => this.#work());
  }

  #work(): void {
    this.#turn = undefined;
    const publishes = this.#incoming;
    this.#incoming = [];
    let hasInserts = false;
    for (const publish of publishes) hasInserts = this.#admit(publish) || hasInserts;
    const isDurable = !hasInserts || this.#journal?.commit() === true;
    for (const publish of publishes) this.#finish(publish, isDurable);
    if (this.#journal !== undefined && this.#journal.waiting >= ACKS_PER_COMMIT) this.#journal.commit();
    const awake = this.#awake;
    this.#awake = new Set();
    for (const queue of awake) if (queue.pump()) this.wake(queue);
  }

  /** Routes a message and reserves its room; returns whether it has to be written to the journal. */
  #admit(publish: Publish): boolean {
    const { message, origin } = publish;
    const bytes = message.body.length;
    const isOver = origin === undefined && this.#heldBytes + bytes > this.#maxBytes;
    this.#route(publish);
    publish.entries = [];
    let hasInserts = false;
    for (const queue of publish.queues) {
      if (isOver || !queue.reserve(bytes)) {
        publish.entries.push(undefined);
        publish.outcome = 'refused';
        continue;
      }
      this.#heldBytes += bytes;
      const expiresAt = queue.expiryOf(message);
      let journalId = 0;
      if (this.#journal !== undefined && queue.keeps(message)) {
        journalId = this.#journal.insert({ queue: queue.spec.name, message, expiresAt, redelivered: false });
        hasInserts = true;
      }
      publish.entries.push({ message, journalId, expiresAt, redelivered: false, position: 0, returns: 0 });
    }
    return hasInserts;
  }

  #route(publish: Publish): void {
    const { exchange, routingKey } = publish.message;
    const queues = this.routing.route(exchange, routingKey);
    publish.queues = queues ?? NO_QUEUES;
    publish.outcome = publish.isMandatory && publish.queues.length === 0 ? 'returned' : 'accepted';
    if (queues !== undefined) return;
    // RabbitMQ closes the channel (404), and the publisher never learns what became of the message.
    publish.outcome = 'lost';
    this.#log.error({ exchange, routingKey }, 'a message was published to an exchange that does not exist');
  }

  #finish(publish: Publish, isDurable: boolean): void {
    const bytes = publish.message.body.length;
    for (let i = 0; i < publish.queues.length; i++) {
      const entry = publish.entries[i];
      const queue = publish.queues[i];
      if (entry === undefined || queue === undefined) continue;
      queue.unreserve(bytes);
      if (isDurable || entry.journalId === 0) {
        queue.push(entry);
      } else {
        this.#heldBytes -= bytes;
        publish.outcome = 'refused';
      }
    }
    publish.settle?.(publish.outcome);
    if (publish.origin === undefined) return;
    if (publish.outcome === 'accepted' || !publish.origin.isAtLeastOnce) this.release(publish.origin.entry);
    else this.#retryLater(publish);
  }

  /** A dead letter stays where it was in the journal until a queue took it: a crash meanwhile brings it back there. */
  #retryLater(publish: Publish): void {
    this.#stuck.push(publish);
    this.#stuckTimer ??= setTimeout(() => {
      this.#stuckTimer = undefined;
      this.#incoming.push(...this.#stuck.splice(0));
      this.#schedule();
    }, RETRY_MS);
  }

  #commitAcks(): void {
    this.#ackTimer = undefined;
    if (this.#journal === undefined || this.#journal.waiting === 0 || this.#journal.commit()) return;
    this.#ackTimer = setTimeout(() => this.#commitAcks(), RETRY_MS);
  }
}
