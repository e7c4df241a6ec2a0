import type { Broker, Delivery } from '../core/broker/broker.ts';
import { openListener } from '../core/broker/listener.ts';
import { ID_BYTES } from '../core/id.ts';
import type { Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { cancelExchange, listenerQueue, listenerTopology } from '../core/wire/topology.ts';

/** Ids kept at most: two generations of half as many. */
const GENERATION_IDS = 50_000;
/** Ids read of one message: no caller has so many calls at once, and each is looked for among all that are held. */
const MAX_IDS = 10_000;
/** No sync call lives longer (protocol §1.9), so neither need its cancellation. */
const GENERATION_MS = 15 * 60_000;

/**
 * Ids of calls that were cancelled before they arrived here: the two may take different ways. Bounded: the older half
 * is forgotten when there are too many, or when it is older than any call.
 */
export class CancelledIds {
  #young = new Map<number, Buffer>();
  #old = new Map<number, Buffer>();
  #youngSince = performance.now();

  add(id: Buffer): void {
    const now = performance.now();
    if (this.#young.size >= GENERATION_IDS || now - this.#youngSince > GENERATION_MS) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngSince = now;
    }
    this.#young.set(tailOf(id), Buffer.from(id));
  }

  get isEmpty(): boolean {
    return this.#young.size === 0 && this.#old.size === 0;
  }

  has(id: Buffer): boolean {
    const tail = tailOf(id);
    return this.#young.get(tail)?.equals(id) === true || this.#old.get(tail)?.equals(id) === true;
  }
}

function tailOf(id: Buffer): number {
  return id.readUInt32BE(ID_BYTES - 4);
}

/**
 * Hears `funcatron.cancel`, trying again until the broker lets it; it does not wait for that.
 * @param onCancel called with the 16 bytes of each id, a view
 */
export function openCancelListener(broker: Broker, runner: string, log: Log, onCancel: (id: Buffer) => void): Closable {
  function hear(delivery: Delivery): void {
    const { body } = delivery;
    const count = Math.min(Math.floor(body.length / ID_BYTES), MAX_IDS);
    for (let index = 0; index < count; index++) onCancel(body.subarray(index * ID_BYTES, (index + 1) * ID_BYTES));
  }

  return openListener({
    broker,
    log,
    queue: listenerQueue(cancelExchange.name, runner),
    topology: listenerTopology(cancelExchange, runner, [''], 10_000),
    isOwn: true,
    onDelivery: hear,
  });
}
