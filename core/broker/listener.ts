import { backoffMs } from '../deadline.ts';
import { FuncatronError } from '../errors.ts';
import { delay, type Closable } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import type { Topology } from '../wire/topology.ts';
import type { Broker, Consumer, ConsumeOptions, Delivery } from './broker.ts';

/** A queue that is consumed as soon as the broker lets it, and from then on through every reconnect. */
export interface Listener extends Closable {
  /** Whether it is consumed: what is sent to it will be heard. */
  readonly isOpen: boolean;
  /** Settles when it is consumed, or closed before. Never rejects. */
  readonly opened: Promise<void>;
}

export interface ListenerOptions {
  readonly broker: Broker;
  readonly log: Log;
  readonly queue: string;
  /** Declared before it is consumed: the queue itself, and what its users publish to. */
  readonly topology: Topology;
  readonly consume?: ConsumeOptions;
  /** The queue is this process's own: closing deletes it. */
  readonly isOwn: boolean;
  onDelivery(delivery: Delivery): void;
}

/** Opens in the background and tries again, with backoff, until the broker lets it; it does not wait for that. */
export function openListener(options: ListenerOptions): Listener {
  const { broker, log, queue } = options;
  const stop = new AbortController();
  let consumer: Consumer | undefined;
  let closing: Promise<void> | undefined;
  const opened = open();

  async function open(): Promise<void> {
    for (let attempt = 0; await broker.ready(stop.signal); attempt++) {
      try {
        await broker.declare(options.topology);
        consumer = await broker.consume(queue, options.consume ?? {}, (delivery) => options.onDelivery(delivery));
        return;
      } catch (error) {
        log.warn({ reason: String(error), queue }, 'cannot consume a queue yet, trying again');
        await delay(backoffMs(attempt), stop.signal);
      }
    }
  }

  async function close(): Promise<void> {
    stop.abort();
    await opened;
    await consumer?.cancel();
    if (!options.isOwn) return;
    try {
      await broker.deleteQueue(queue);
    } catch (error) {
      // The queue expires by itself when the broker cannot be asked to delete it.
      if (!(error instanceof FuncatronError)) throw error;
    }
  }

  return {
    get isOpen() {
      return consumer !== undefined;
    },
    opened,
    close: () => (closing ??= close()),
  };
}
