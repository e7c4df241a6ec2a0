import type { Log } from '../log.ts';
import type { ConsumeOptions, Consumer, Delivery, MessageProperties } from './broker.ts';
import type { Entry, Receiver } from './memory-entry.ts';
import type { MemoryQueue } from './memory-queue.ts';

/** What a consumer asks of the broker handle it belongs to. */
export interface ConsumerOwner {
  readonly isOpen: boolean;
  readonly log: Log;
  /** The entry is acknowledged. */
  release(entry: Entry): void;
  /** Something may be deliverable in the next turn. */
  wake(queue: MemoryQueue): void;
  /** The consumer's queue was deleted. */
  queueGone(consumer: MemoryConsumer): void;
  /** The consumer is cancelled and owes nothing any more. */
  finished(consumer: MemoryConsumer): void;
}

/**
 * One consumer of one queue: hands out deliveries up to its prefetch and keeps those that are not settled.
 * `consuming` → `cancelled` (takes no more, may settle what it has) → finished; `die` ends it from either.
 */
export class MemoryConsumer implements Consumer, Receiver {
  readonly queue: string;
  readonly options: ConsumeOptions;
  readonly owner: ConsumerOwner;
  readonly #onDelivery: (delivery: Delivery) => void;
  readonly #unsettled = new Set<MemoryDelivery>();
  #source: MemoryQueue | undefined;
  #isCancelled = false;

  constructor(queue: string, options: ConsumeOptions, owner: ConsumerOwner, onDelivery: (delivery: Delivery) => void) {
    this.queue = queue;
    this.options = options;
    this.owner = owner;
    this.#onDelivery = onDelivery;
  }

  get room(): number {
    return this.options.prefetch === undefined ? Infinity : this.options.prefetch - this.#unsettled.size;
  }

  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Consumes this queue from now on; does nothing once cancelled. */
  attach(source: MemoryQueue): void {
    if (this.#isCancelled) return;
    this.#source = source;
    source.addReceiver(this);
  }

  deliver(entry: Entry): void {
    const acknowledges = this.options.prefetch !== undefined;
    const delivery = new MemoryDelivery(entry, this.owner, acknowledges ? this : undefined, this.#source);
    if (acknowledges) this.#unsettled.add(delivery);
    else this.owner.release(entry);
    try {
      this.#onDelivery(delivery);
    } catch (error) {
      // One receiver's defect must not stop the deliveries of the others.
      this.owner.log.error({ err: error, queue: this.queue }, 'a delivery was not taken: rejected');
      delivery.reject();
    }
  }

  /** Called by its deliveries. */
  settle(delivery: MemoryDelivery): void {
    this.#unsettled.delete(delivery);
    if (this.#source !== undefined) this.owner.wake(this.#source);
    if (this.#isCancelled && this.#unsettled.size === 0) this.owner.finished(this);
  }

  queueGone(): void {
    this.#source = undefined;
    this.owner.queueGone(this);
  }

  cancel(): Promise<void> {
    if (!this.#isCancelled) {
      this.#stop();
      if (this.#unsettled.size === 0) this.owner.finished(this);
    }
    return Promise.resolve();
  }

  /** Its connection is gone: what it holds goes back to the queues it came from, as redelivered. */
  die(): void {
    this.#stop();
    const bySource = Map.groupBy(this.#unsettled, (delivery) => delivery.source);
    this.#unsettled.clear();
    for (const [source, deliveries] of bySource) source?.requeue(deliveries.map((delivery) => delivery.entry));
  }

  #stop(): void {
    this.#isCancelled = true;
    this.#source?.removeReceiver(this);
    this.#source = undefined;
  }
}

/** One delivery; without a consumer it needs no acknowledgement. */
export class MemoryDelivery implements Delivery {
  readonly entry: Entry;
  readonly source: MemoryQueue | undefined;
  readonly redelivered: boolean;
  readonly #owner: ConsumerOwner;
  #consumer: MemoryConsumer | undefined;

  constructor(entry: Entry, owner: ConsumerOwner, consumer?: MemoryConsumer, source?: MemoryQueue) {
    this.entry = entry;
    this.source = source;
    this.redelivered = entry.redelivered;
    this.#consumer = consumer;
    this.#owner = owner;
  }

  get body(): Buffer {
    return this.entry.message.body;
  }
  get exchange(): string {
    return this.entry.message.exchange;
  }
  get routingKey(): string {
    return this.entry.message.routingKey;
  }
  get properties(): MessageProperties {
    return this.entry.message.properties;
  }
  get alive(): boolean {
    return this.#owner.isOpen;
  }

  ack(): void {
    const consumer = this.#claim();
    if (consumer === undefined) return;
    this.#owner.release(this.entry);
    consumer.settle(this);
  }

  reject(): void {
    const consumer = this.#claim();
    if (consumer === undefined) return;
    this.source?.reject(this.entry);
    consumer.settle(this);
  }

  /** Who has to hear of the first answer; nobody hears of a second one, or of one after the connection died. */
  #claim(): MemoryConsumer | undefined {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    return this.#owner.isOpen ? consumer : undefined;
  }
}
