import type { Broker, Delivery, MessageProperties, PublishOutcome } from '../../core/broker/broker.ts';
import { newId } from '../../core/id.ts';
import type { QueueSpec } from '../../core/wire/topology.ts';

/** What the suites of the contract share. */
export interface Contract {
  readonly broker: Broker;
  another(): Promise<Broker>;
  /** A queue of this test's own with these arguments; its name. */
  queue(args?: QueueSpec['arguments'], name?: string): Promise<string>;
}

/** A name nobody else uses. */
export function uniqueName(): string {
  return `contract.${newId()}`;
}

/** Publishes text to a queue through the default exchange. */
export function send(
  broker: Broker,
  queue: string,
  text: string,
  properties: MessageProperties = {},
  mandatory = false,
): Promise<PublishOutcome> {
  return broker.publish({ exchange: '', routingKey: queue, body: Buffer.from(text), properties, mandatory });
}

/** The bodies of deliveries as text. */
export function texts(deliveries: readonly Delivery[]): string[] {
  return deliveries.map((delivery) => delivery.body.toString());
}

/** Takes everything out of a queue; the bodies as text. */
export async function drain(broker: Broker, queue: string): Promise<string[]> {
  const taken: Delivery[] = [];
  for (;;) {
    const delivery = await broker.take(queue);
    if (delivery === undefined) return texts(taken);
    taken.push(delivery);
  }
}
