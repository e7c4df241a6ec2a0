import type { Closable } from '../lifecycle.ts';
import type { BindingSpec, Topology } from '../wire/topology.ts';

/**
 * The broker interface: what the parts need of RabbitMQ, and nothing else. Two implementations (`amqp.ts`,
 * `memory.ts`) pass one contract suite.
 *
 * States: `connecting` → `ready` ⇄ `blocked` (the broker asks publishers to wait) → `down` (connection lost, trying
 * again with backoff) → `ready` … → `closed`. Whatever was declared or consumed is declared and consumed again before
 * `ready` is announced.
 */
export interface Broker extends Closable {
  readonly kind: 'amqp' | 'memory';
  readonly state: BrokerState;
  /** What answers: `RabbitMQ 3.10.8`; absent before the first connection, and for the embedded one. */
  readonly server?: string | undefined;

  /** Calls the listener on every change of state; returns how to stop. */
  onState(listener: (change: BrokerChange) => void): () => void;

  /** Settles when the broker is ready, or with `false` when the signal aborts first. */
  ready(signal?: AbortSignal): Promise<boolean>;

  /**
   * Declares exchanges, queues and bindings, and remembers them for every reconnect until `forget`.
   * Idempotent. Settles when the broker said yes.
   * @throws BROKER_DOWN when it cannot be reached now (it is declared at the next reconnect all the same)
   */
  declare(topology: Topology): Promise<void>;

  /** No longer declares these queues at a reconnect; deletes nothing. */
  forget(queues: readonly string[]): void;

  /**
   * Sends one message with publisher confirms. The outcome is a value, never an exception:
   * `accepted` it is routed, and durable when it is persistent; `returned` no queue took it (only with `mandatory`);
   * `refused` the queue is full; `down` it never left this process; `lost` the connection died before the confirm,
   * so the broker may or may not have it.
   * The body belongs to the broker from now on and must not change.
   */
  publish(message: OutgoingMessage): Promise<PublishOutcome>;

  /**
   * Consumes a queue and goes on doing so through reconnects, channel closes and consumer cancels.
   * Settles when the broker accepted the consumer. A queue that is gone is declared again when it was declared here,
   * else `onGone` is called once.
   * @throws BROKER_DOWN when it cannot be reached now
   */
  consume(queue: string, options: ConsumeOptions, onDelivery: (delivery: Delivery) => void): Promise<Consumer>;

  /** Depth and consumers of a queue, or `undefined` when it does not exist. Declares nothing (but keeps an expiring queue alive). */
  probe(queue: string): Promise<QueueCounts | undefined>;

  /** Takes one message out of a queue for good (acknowledged at once), or `undefined` when it is empty or missing. For inspection and tests. */
  take(queue: string): Promise<Delivery | undefined>;

  /** Takes a binding away and forgets it: its queue keeps what it holds. Does nothing when it is not there. @throws BROKER_DOWN */
  unbind(binding: BindingSpec): Promise<void>;

  /** Deletes a queue and forgets it; does nothing when it is not there. Returns the messages it held. */
  deleteQueue(queue: string): Promise<number>;
}

/** A longer body is `refused` before it is sent: RabbitMQ 4 takes no larger message, and asking costs the channel. */
export const MAX_BODY_BYTES = 16 * 1024 * 1024;

export type BrokerState = 'connecting' | 'ready' | 'blocked' | 'down' | 'closed';

export interface BrokerChange {
  readonly state: BrokerState;
  /** With `ready` after `down`: whether the broker itself was restarted, so that transient messages are gone. */
  readonly restarted?: boolean;
}

export type PublishOutcome = 'accepted' | 'returned' | 'refused' | 'down' | 'lost';

/** AMQP's basic properties, as far as they are used. Strings, as on the wire. */
export interface MessageProperties {
  readonly contentType?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
  /** Milliseconds to live, an integer ≥ 1: RabbitMQ closes the channel on anything else. */
  readonly expirationMs?: number;
  readonly messageId?: string;
  /** Unix seconds. */
  readonly timestamp?: number;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly persistent?: boolean;
}

export interface OutgoingMessage {
  /** `''` is the default exchange: `routingKey` is then a queue's name. */
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly properties: MessageProperties;
  /** Ask for `returned` when no queue takes it. */
  readonly mandatory?: boolean;
}

export interface ConsumeOptions {
  /** Most unacknowledged deliveries at once; constant for the life of the consumer. Absent: no acknowledgements (`noAck`). */
  readonly prefetch?: number;
  /** The queue does not exist and nobody here declared it. */
  readonly onGone?: () => void;
}

/** One message as it arrived. Buffers are the receiver's; `ack` and `reject` do nothing the second time or after the channel died. */
export interface Delivery {
  readonly body: Buffer;
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: MessageProperties;
  /** It was delivered before and not acknowledged: a consumer died with it. */
  readonly redelivered: boolean;
  /** Whether the channel it came on still lives: an ack would be heard. */
  readonly alive: boolean;
  ack(): void;
  /** Never requeues: the broker dead-letters it, or drops it where the queue has no dead-letter exchange. */
  reject(): void;
}

export interface Consumer {
  readonly queue: string;
  /**
   * Takes no more deliveries; what was delivered stays with its receiver, who may still `ack` it: the channel is kept
   * until the last one is settled or `close` of the broker.
   */
  cancel(): Promise<void>;
}

export interface QueueCounts {
  readonly messages: number;
  readonly consumers: number;
}
