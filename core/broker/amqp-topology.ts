import type { BindingSpec, ExchangeSpec, QueueSpec, Topology } from '../wire/topology.ts';
import type { Channel } from './amqp-connection.ts';

/** What was declared here and is declared again on every new connection. */
export class TopologyMemory {
  readonly #exchanges = new Map<string, ExchangeSpec>();
  readonly #queues = new Map<string, QueueSpec>();
  readonly #bindings = new Map<string, BindingSpec>();

  add(topology: Topology): void {
    for (const exchange of topology.exchanges ?? []) this.#exchanges.set(exchange.name, exchange);
    for (const queue of topology.queues ?? []) this.#queues.set(queue.name, queue);
    for (const binding of topology.bindings ?? []) this.#bindings.set(bindingKey(binding), binding);
  }

  forget(queues: readonly string[]): void {
    for (const name of queues) {
      this.#queues.delete(name);
      for (const [key, binding] of this.#bindings) if (binding.queue === name) this.#bindings.delete(key);
    }
  }

  forgetBinding(binding: BindingSpec): void {
    this.#bindings.delete(bindingKey(binding));
  }

  /** The queue with its bindings, or `undefined` when it was not declared here. */
  of(queue: string): Topology | undefined {
    const spec = this.#queues.get(queue);
    if (spec === undefined) return undefined;
    return { queues: [spec], bindings: [...this.#bindings.values()].filter((binding) => binding.queue === queue) };
  }

  /** Everything as single steps, so that one that is refused does not take the others along. */
  steps(): Topology[] {
    return [
      ...this.#exchanges.values().map((exchange) => ({ exchanges: [exchange] })),
      ...this.#queues.values().map((queue) => ({ queues: [queue] })),
      ...this.#bindings.values().map((binding) => ({ bindings: [binding] })),
    ];
  }
}

/** Declares exchanges, then queues, then bindings on one channel, which the broker closes at the first it refuses. */
export async function declareOn(channel: Channel, topology: Topology): Promise<void> {
  for (const { name, type, durable, arguments: args } of topology.exchanges ?? []) {
    await channel.assertExchange(name, type, { durable, arguments: args });
  }
  for (const { name, durable, arguments: args } of topology.queues ?? []) {
    await channel.assertQueue(name, { durable, arguments: args });
  }
  for (const { queue, exchange, key } of topology.bindings ?? []) await channel.bindQueue(queue, exchange, key);
}

/** What a topology consists of, for a message: `queue ev.orders`. */
export function describeTopology(topology: Topology): string {
  const names = [
    ...(topology.exchanges ?? []).map((exchange) => `exchange ${exchange.name}`),
    ...(topology.queues ?? []).map((queue) => `queue ${queue.name}`),
    ...(topology.bindings ?? []).map((binding) => `binding ${binding.exchange} → ${binding.queue}`),
  ];
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
}

function bindingKey({ exchange, queue, key }: BindingSpec): string {
  return JSON.stringify([exchange, queue, key]);
}
