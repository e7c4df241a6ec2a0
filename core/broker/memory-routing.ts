import { FuncatronError } from '../errors.ts';
import type { BindingSpec, ExchangeSpec, QueueSpec, Topology } from '../wire/topology.ts';
import type { QueueOwner } from './memory-entry.ts';
import { MemoryExchange } from './memory-exchange.ts';
import type { Journal } from './memory-journal.ts';
import type { JournalContent } from './memory-journal-file.ts';
import { MemoryQueue } from './memory-queue.ts';

const NO_QUEUES: readonly MemoryQueue[] = [];

/** The exchanges, queues and bindings there are; durable ones are written to the journal as they are declared. */
export class MemoryRouting {
  readonly #owner: QueueOwner;
  readonly #journal: Journal | undefined;
  readonly #exchanges = new Map<string, MemoryExchange>();
  readonly #queues = new Map<string, MemoryQueue>();

  constructor(owner: QueueOwner, journal: Journal | undefined) {
    this.#owner = owner;
    this.#journal = journal;
  }

  get queues(): Iterable<MemoryQueue> {
    return this.#queues.values();
  }

  queue(name: string): MemoryQueue | undefined {
    return this.#queues.get(name);
  }

  /** Makes what the journal holds. */
  restore(content: JournalContent): void {
    for (const spec of content.exchanges) this.#exchanges.set(spec.name, new MemoryExchange(spec));
    for (const spec of content.queues) this.#queues.set(spec.name, new MemoryQueue(spec, this.#owner));
    for (const spec of content.bindings) {
      const queue = this.#queues.get(spec.queue);
      if (queue !== undefined) this.#exchanges.get(spec.exchange)?.bind(spec.key, queue);
    }
  }

  /**
   * Idempotent.
   * @throws INTERNAL when something exists with other arguments (RabbitMQ's 406) or a binding names what does not
   * exist (404); BROKER_DOWN when the journal cannot be written
   */
  declare({ exchanges = [], queues = [], bindings = [] }: Topology): void {
    for (const spec of exchanges) this.#declareExchange(spec);
    for (const spec of queues) this.#declareQueue(spec);
    for (const spec of bindings) this.#bind(spec);
  }

  /** Takes a queue and its bindings away. */
  remove(name: string): MemoryQueue | undefined {
    const queue = this.#queues.get(name);
    if (queue === undefined) return undefined;
    if (queue.spec.durable) this.#journal?.deleteQueue(name);
    this.#queues.delete(name);
    for (const exchange of this.#exchanges.values()) exchange.unbind(queue);
    return queue;
  }

  unbind(spec: BindingSpec): void {
    const queue = this.#queues.get(spec.queue);
    const exchange = this.#exchanges.get(spec.exchange);
    if (queue === undefined || exchange === undefined) return;
    this.#journal?.unbind(spec);
    exchange.unbind(queue, spec.key);
  }

  /** Where a message goes, alternate exchanges included; `undefined` when the exchange does not exist. */
  route(exchange: string, routingKey: string): readonly MemoryQueue[] | undefined {
    if (exchange === '') return this.#queues.get(routingKey)?.asRoute ?? NO_QUEUES;
    let next = this.#exchanges.get(exchange);
    if (next === undefined) return undefined;
    // Alternates may form a circle: each is asked once at most.
    for (let asked = 0; next !== undefined && asked < this.#exchanges.size; asked++) {
      const queues = next.route(routingKey);
      if (queues.length > 0) return queues;
      next = next.alternate === undefined ? undefined : this.#exchanges.get(next.alternate);
    }
    return NO_QUEUES;
  }

  #declareExchange(spec: ExchangeSpec): void {
    const known = this.#exchanges.get(spec.name);
    if (known !== undefined) return assertSame('exchange', known.spec, spec);
    if (spec.durable) this.#journal?.declareExchange(spec);
    this.#exchanges.set(spec.name, new MemoryExchange(spec));
  }

  #declareQueue(spec: QueueSpec): void {
    const known = this.#queues.get(spec.name);
    if (known !== undefined) {
      assertSame('queue', known.spec, spec);
      known.touch();
      return;
    }
    const queue = new MemoryQueue(spec, this.#owner);
    if (spec.durable) this.#journal?.declareQueue(spec);
    this.#queues.set(spec.name, queue);
  }

  #bind(spec: BindingSpec): void {
    const exchange = this.#exchanges.get(spec.exchange);
    const queue = this.#queues.get(spec.queue);
    if (exchange === undefined || queue === undefined) {
      const missing = exchange === undefined ? `exchange "${spec.exchange}"` : `queue "${spec.queue}"`;
      throw new FuncatronError('INTERNAL', `could not bind "${spec.queue}" to "${spec.exchange}": no ${missing}`);
    }
    if (!exchange.bind(spec.key, queue)) return;
    if (exchange.spec.durable && queue.spec.durable) this.#journal?.bind(spec);
  }
}

function assertSame<T extends ExchangeSpec | QueueSpec>(what: string, known: T, asked: T): void {
  if (fingerprint(known) === fingerprint(asked)) return;
  throw new FuncatronError(
    'INTERNAL',
    `could not declare ${what} "${asked.name}" again with other arguments: it is ${fingerprint(known)}, not ${fingerprint(asked)}`,
    { data: { hint: 'delete it first, or give it another name' } },
  );
}

/** A spec in one form, whatever the order of its arguments. */
function fingerprint(spec: ExchangeSpec | QueueSpec): string {
  const sorted = Object.entries(spec.arguments).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify({ ...('type' in spec ? { type: spec.type } : {}), durable: spec.durable, arguments: sorted });
}
