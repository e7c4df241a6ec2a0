import { toFuncatronError } from '../errors.ts';
import type { Closable } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import { Envelope, KIND_REPLIES } from '../wire/envelope.ts';
import { replyQueue, type ExchangeSpec } from '../wire/topology.ts';
import type { Broker, Delivery } from './broker.ts';
import { openListener, type Listener } from './listener.ts';

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
 * The address `reply.<id>`, not open yet. The queue is durable and outlives a dropped connection by a minute, so replies
 * sent meanwhile are delivered afterwards (an exclusive one could not be declared again while the old connection is
 * half open: protocol §1.11). Deliveries are not acknowledged: a reply that reached this process is of no use to another.
 */
export function createReplyAddress(options: ReplyAddressOptions): ReplyAddress {
  const { broker, id, log } = options;
  const queue = replyQueue(id);
  let listener: Listener | undefined;

  function hear(delivery: Delivery): void {
    const envelope = decode(delivery.body);
    if (envelope instanceof Envelope) return options.onReplies(envelope);
    log.warn(
      { bytes: delivery.body.length, reason: envelope },
      'a message on the reply queue is no envelope of replies',
    );
  }

  return {
    queue: queue.name,
    open() {
      const topology = { exchanges: [options.exchange], queues: [queue] };
      listener ??= openListener({ broker, log, queue: queue.name, topology, isOwn: true, onDelivery: hear });
    },
    get isOpen() {
      return listener?.isOpen === true;
    },
    close: async () => listener?.close(),
  };
}

/** The replies, or why there are none: another version's, for one. */
function decode(body: Buffer): Envelope | string {
  try {
    const envelope = new Envelope(body);
    return envelope.kind === KIND_REPLIES ? envelope : 'it holds calls';
  } catch (error) {
    return toFuncatronError(error).message;
  }
}
