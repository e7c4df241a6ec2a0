import { backoffMs } from '../deadline.ts';
import { FuncatronError } from '../errors.ts';
import { delay } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import type { BindingSpec, Topology } from '../wire/topology.ts';
import { describeTopology, TopologyMemory } from './amqp-topology.ts';
import type {
  Broker,
  BrokerChange,
  BrokerState,
  ConsumeOptions,
  Consumer,
  Delivery,
  OutgoingMessage,
  PublishOutcome,
  QueueCounts,
} from './broker.ts';
import { MemoryConsumer, MemoryDelivery, type ConsumerOwner } from './memory-consumer.ts';
import { MemoryCore } from './memory-core.ts';
import type { Entry } from './memory-entry.ts';
import { openJournal } from './memory-journal.ts';
import type { MemoryQueue } from './memory-queue.ts';

const DEFAULT_MAX_BYTES = 1024 * 1024 * 1024;

/** The embedded broker: RabbitMQ's semantics, as far as `core/wire/topology.ts` uses them, inside one process. */
export interface MemoryBroker extends Broker {
  readonly kind: 'memory';
  /**
   * Another handle on the same broker, as a second connection to one RabbitMQ: when it closes, what its consumers hold
   * goes back to the queues as redelivered. Closed together with the first handle.
   */
  connect(): MemoryBroker;
}

/** Where the journal is, if anywhere, and how much may be held. */
export interface MemoryBrokerOptions {
  /** The journal; absent: nothing outlives the process, and persistent messages are accepted all the same. */
  readonly file: string | undefined;
  readonly log: Log;
  /** Bytes of bodies held at once, in all queues together; a message beyond is `refused`. 1 GiB when absent. */
  readonly maxBytes?: number;
}

/**
 * Opens the broker of this process. Closing the handle it gives closes the broker and every other handle.
 * @throws INVALID_CONFIG when another process uses the journal, BROKER_DOWN when it cannot be opened
 */
export async function openMemoryBroker(options: MemoryBrokerOptions): Promise<MemoryBroker> {
  const log = options.log.child({ part: 'broker' });
  const journal = options.file === undefined ? undefined : await openJournal(options.file, log);
  const core = new MemoryCore({ journal, maxBytes: options.maxBytes ?? DEFAULT_MAX_BYTES, log });
  return new MemoryConnection(core, log, () => core.close());
}

class MemoryConnection implements MemoryBroker, ConsumerOwner {
  readonly kind = 'memory';
  readonly log: Log;
  readonly #core: MemoryCore;
  readonly #onClose: () => void;
  readonly #declared = new TopologyMemory();
  readonly #consumers = new Set<MemoryConsumer>();
  readonly #others = new Set<MemoryConnection>();
  readonly #listeners = new Set<(change: BrokerChange) => void>();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  constructor(core: MemoryCore, log: Log, onClose: () => void) {
    this.#core = core;
    this.log = log;
    this.#onClose = onClose;
  }

  get isOpen(): boolean {
    return !this.#closing.signal.aborted;
  }

  get state(): BrokerState {
    return this.isOpen ? 'ready' : 'closed';
  }

  connect(): MemoryBroker {
    this.#assertOpen('connect to the broker');
    const other = new MemoryConnection(this.#core, this.log, () => this.#others.delete(other));
    this.#others.add(other);
    return other;
  }

  onState(listener: (change: BrokerChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  ready(): Promise<boolean> {
    return Promise.resolve(this.isOpen);
  }

  async declare(topology: Topology): Promise<void> {
    this.#assertOpen(`declare ${describeTopology(topology)}`);
    this.#core.routing.declare(topology);
    this.#declared.add(topology);
  }

  forget(queues: readonly string[]): void {
    this.#declared.forget(queues);
  }

  publish(message: OutgoingMessage): Promise<PublishOutcome> {
    return this.isOpen ? this.#core.publish(message) : Promise.resolve('down');
  }

  async consume(queue: string, options: ConsumeOptions, onDelivery: (delivery: Delivery) => void): Promise<Consumer> {
    this.#assertOpen(`consume ${queue}`);
    const consumer = new MemoryConsumer(queue, options, this, onDelivery);
    this.#consumers.add(consumer);
    this.#attach(consumer);
    return consumer;
  }

  async probe(queue: string): Promise<QueueCounts | undefined> {
    this.#assertOpen(`probe ${queue}`);
    const found = this.#core.routing.queue(queue);
    found?.touch();
    return found?.counts();
  }

  async take(queue: string): Promise<Delivery | undefined> {
    this.#assertOpen(`take from ${queue}`);
    const entry = this.#core.routing.queue(queue)?.take();
    if (entry === undefined) return undefined;
    this.#core.release(entry);
    return new MemoryDelivery(entry, this);
  }

  async unbind(binding: BindingSpec): Promise<void> {
    this.#assertOpen(`unbind ${binding.queue} from ${binding.exchange}`);
    this.#core.routing.unbind(binding);
  }

  async deleteQueue(queue: string): Promise<number> {
    this.forget([queue]);
    this.#assertOpen(`delete ${queue}`);
    return this.#core.deleteQueue(queue);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  wake(queue: MemoryQueue): void {
    this.#core.wake(queue);
  }

  release(entry: Entry): void {
    this.#core.release(entry);
  }

  /** As on a RabbitMQ connection: declared again where it was declared here, else the consumer is over. */
  queueGone(consumer: MemoryConsumer): void {
    void this.#resume(consumer);
  }

  finished(consumer: MemoryConsumer): void {
    this.#consumers.delete(consumer);
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    for (const other of this.#others) await other.close();
    for (const consumer of this.#consumers) consumer.die();
    this.#consumers.clear();
    this.#onClose();
    for (const listener of this.#listeners) listener({ state: 'closed' });
  }

  /** Never rejects. */
  async #resume(consumer: MemoryConsumer): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      await delay(backoffMs(attempt), this.#closing.signal);
      if (!this.isOpen || consumer.isCancelled) return;
      try {
        return this.#attach(consumer);
      } catch (error) {
        this.log.warn({ queue: consumer.queue, reason: String(error) }, 'consumer cannot resume');
      }
    }
  }

  #attach(consumer: MemoryConsumer): void {
    const declared = this.#declared.of(consumer.queue);
    if (declared !== undefined) this.#core.routing.declare(declared);
    const queue = this.#core.routing.queue(consumer.queue);
    if (queue !== undefined) return consumer.attach(queue);
    void consumer.cancel();
    consumer.options.onGone?.();
  }

  #assertOpen(what: string): void {
    if (!this.isOpen) throw new FuncatronError('BROKER_DOWN', `could not ${what}: the broker is closed`);
  }
}
