import { newId } from '../id.ts';
import type { Log } from '../log.ts';
import type { Channel, Message } from './amqp-connection.ts';
import { fromMessage } from './amqp-properties.ts';
import type { Delivery, MessageProperties } from './broker.ts';

/** One channel with one consumer, and how many of its deliveries are unsettled. */
export class ConsumerChannel {
  readonly #channel: Channel;
  readonly #onDelivery: (delivery: Delivery) => void;
  readonly #log: Log;
  #tag: string | undefined;
  #acknowledges = true;
  #unsettled = 0;
  #alive = true;
  #retired = false;

  constructor(channel: Channel, onDelivery: (delivery: Delivery) => void, log: Log) {
    this.#channel = channel;
    this.#onDelivery = onDelivery;
    this.#log = log;
  }

  /** Whether a settlement would be heard. */
  get alive(): boolean {
    return this.#alive;
  }

  /** Whether deliveries go on arriving. */
  get consuming(): boolean {
    return this.#alive && this.#tag !== undefined;
  }

  /** Begins to consume. `onLost` is called when the channel closes, or the broker cancels the consumer. */
  async consume(queue: string, prefetch: number | undefined, onLost: () => void): Promise<void> {
    this.#channel.once('close', () => {
      this.#alive = false;
      onLost();
    });
    // The tag is chosen here: deliveries, and a cancel, may arrive in the same turn as the answer.
    const tag = newId();
    this.#tag = tag;
    this.#acknowledges = prefetch !== undefined;
    if (prefetch !== undefined) await this.#channel.prefetch(prefetch);
    const receive = (message: Message | null): void => {
      if (message !== null) return this.#receive(message);
      this.#tag = undefined;
      onLost();
    };
    await this.#channel.consume(queue, receive, { consumerTag: tag, noAck: !this.#acknowledges });
  }

  /**
   * Cancels the consumer and closes the channel once nothing on it is unsettled. Settles when the broker said yes to
   * the cancel: what it had sent before has been delivered by then. Never rejects.
   */
  async retire(): Promise<void> {
    const tag = this.#tag;
    this.#tag = undefined;
    try {
      if (this.#alive && tag !== undefined) await this.#channel.cancel(tag);
    } catch {
      this.#alive = false; // the channel died meanwhile, and the consumer with it
    }
    // Not before the answer: what is still on its way would come back as redelivered.
    this.#retired = true;
    this.#closeWhenSettled();
  }

  /** Tells the broker; heard only while the channel lives. */
  settle(message: Message, accepted: boolean): void {
    if (!this.#alive) return;
    try {
      if (accepted) this.#channel.ack(message);
      else this.#channel.reject(message, false);
    } catch {
      this.#alive = false; // it closed in this very turn: the broker redelivers
    }
    this.#unsettled--;
    if (this.#retired) this.#closeWhenSettled();
  }

  #receive(message: Message): void {
    if (this.#acknowledges) this.#unsettled++;
    const delivery = new AmqpDelivery(message, this, !this.#acknowledges);
    try {
      this.#onDelivery(delivery);
    } catch (error) {
      // amqplib would close the channel, and with it everything else that is unsettled on it.
      const { exchange, routingKey } = message.fields;
      this.#log.error({ err: error, exchange, routingKey }, 'a delivery was not taken: rejected');
      delivery.reject();
    }
  }

  #closeWhenSettled(): void {
    if (!this.#alive || this.#unsettled > 0) return;
    this.#alive = false;
    // Closing is a courtesy: it fails only where the connection, and the channel with it, is gone.
    this.#channel.close().catch(() => {});
  }
}

/** A message and the channel it came on. */
export class AmqpDelivery implements Delivery {
  readonly body: Buffer;
  readonly #message: Message;
  readonly #channel: ConsumerChannel | undefined;
  #settled: boolean;
  #properties: MessageProperties | undefined;

  constructor(message: Message, channel: ConsumerChannel | undefined, settled: boolean) {
    this.body = message.content;
    this.#message = message;
    this.#channel = channel;
    this.#settled = settled;
  }

  get exchange(): string {
    return this.#message.fields.exchange;
  }

  get routingKey(): string {
    return this.#message.fields.routingKey;
  }

  get redelivered(): boolean {
    return this.#message.fields.redelivered;
  }

  get properties(): MessageProperties {
    this.#properties ??= fromMessage(this.#message);
    return this.#properties;
  }

  get alive(): boolean {
    return this.#channel?.alive ?? false;
  }

  ack(): void {
    this.#settle(true);
  }

  reject(): void {
    this.#settle(false);
  }

  #settle(accepted: boolean): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#channel?.settle(this.#message, accepted);
  }
}
