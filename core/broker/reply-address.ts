import { backoffMs } from '../deadline.ts';
import { FuncatronError } from '../errors.ts';
import { delay, type Closable } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import { Envelope, KIND_REPLIES } from '../wire/envelope.ts';
import { replyQueue, type ExchangeSpec } from '../wire/topology.ts';
import type { Broker, Consumer, Delivery } from './broker.ts';

/** Where replies to one process arrive: `reply.<id>`. */
export interface ReplyAddress extends Closable {
  readonly queue: string;
  /** Begins to declare and consume it, and goes on trying; it does not wait. */
  open(): void;
  /** Whether the queue is declared and consumed, so that a reply would be heard. */
  readonly isOpen: boolean;
}

export interface ReplyAddressOptions {
  readonly broker: Broker;
  readonly id: string;
  readonly log: Log;
  /** Declared together with the queue: publishing to an exchange that is not there closes the channel. */
  readonly exchange: ExchangeSpec;
  /** An envelope of replies; its buffer is the receiver's. Must not throw. */
  onReplies(envelope: Envelope): void;
}

/**
 * The address `reply.<id>`, not open yet. The queue is durable and outlives a dropped connection by a minute, so replies sent meanwhile are delivered afterwards (an
 * exclusive one could not be declared again while the old connection is half open: protocol §1.11). Deliveries are
 * not acknowledged: a reply that reached this process is of no use to another one.
 */
export function createReplyAddress(options: ReplyAddressOptions): ReplyAddress {
  const { broker, id, log } = options;
  const queue = replyQueue(id);
  const stop = new AbortController();
  let consumer: Consumer | undefined;
  let closing: Promise<void> | undefined;
  let opening: Promise<void> | undefined;

  async function open(): Promise<void> {
    for (let attempt = 0; await broker.ready(stop.signal); attempt++) {
      try {
        await broker.declare({ exchanges: [options.exchange], queues: [queue] });
        consumer = await broker.consume(queue.name, {}, hear);
        return;
      } catch (error) {
        log.warn({ err: error, queue: queue.name }, 'cannot consume the reply queue yet, trying again');
        await delay(backoffMs(attempt), stop.signal);
      }
    }
  }

  function hear(delivery: Delivery): void {
    const envelope = decode(delivery.body);
    if (envelope === undefined) {
      log.warn({ bytes: delivery.body.length }, 'a message on the reply queue is no envelope of replies');
      return;
    }
    options.onReplies(envelope);
  }

  async function close(): Promise<void> {
    stop.abort();
    await opening;
    await consumer?.cancel();
    try {
      await broker.deleteQueue(queue.name);
    } catch (error) {
      // The queue expires by itself when the broker cannot be asked to delete it.
      if (!(error instanceof FuncatronError)) throw error;
    }
  }

  return {
    queue: queue.name,
    open() {
      opening ??= open();
    },
    get isOpen() {
      return consumer !== undefined;
    },
    close: () => (closing ??= close()),
  };
}

function decode(body: Buffer): Envelope | undefined {
  try {
    const envelope = new Envelope(body);
    return envelope.kind === KIND_REPLIES ? envelope : undefined;
  } catch {
    return undefined; // Not an envelope of this version: the caller says so.
  }
}
