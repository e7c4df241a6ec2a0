import { cancelExchange } from '../wire/topology.ts';
import type { Broker } from './broker.ts';

/** A runner that has not met the call by then never will: no sync call lives longer (protocol §1.9). */
const CANCEL_TTL_MS = 15 * 60_000;

/** Ids of calls nobody waits for any more, gathered until they are published together. */
export class Cancels {
  readonly #broker: Broker;
  #ids: Buffer[] = [];

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /** @param id 16 bytes that do not change any more */
  add(id: Buffer): void {
    this.#ids.push(id);
  }

  /** Tells every runner, in one message. */
  publish(): void {
    if (this.#ids.length === 0) return;
    const body = Buffer.concat(this.#ids);
    this.#ids = [];
    // Best effort: a call whose cancel is lost ends at its deadline.
    void this.#broker.publish({
      exchange: cancelExchange.name,
      routingKey: '',
      body,
      properties: { type: 'cancel', expirationMs: CANCEL_TTL_MS },
    });
  }
}
