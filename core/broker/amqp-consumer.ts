import { backoffMs } from '../deadline.ts';
import { FuncatronError } from '../errors.ts';
import { delay } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import { channelError, openQuietChannel, ReplyCode, replyCodeOf } from './amqp-channels.ts';
import type { Connection, SupervisedConnection } from './amqp-connection.ts';
import { ConsumerChannel } from './amqp-delivery.ts';
import type { Consumer, ConsumeOptions, Delivery } from './broker.ts';

/** What a consumer needs of its broker. */
export interface ConsumerHost {
  readonly connection: SupervisedConnection;
  readonly log: Log;
  /** Declares the queue again when it was declared here; whether it was. */
  redeclare(connection: Connection, queue: string): Promise<boolean>;
  /** The consumer has ended: cancelled, or its queue is gone. */
  ended(consumer: QueueConsumer): void;
}

/**
 * Consumes one queue on a channel of its own, and again on a new one whenever that ends.
 *
 * States: starting → consuming → (channel closed, or cancelled by the broker because the queue went) → starting …
 * → ended, by `cancel` or when the queue is gone and nobody here declared it.
 * A channel that still holds unsettled deliveries is never closed by us: it retires when the last one is settled.
 */
export class QueueConsumer implements Consumer {
  readonly queue: string;
  readonly #host: ConsumerHost;
  readonly #options: ConsumeOptions;
  readonly #onDelivery: (delivery: Delivery) => void;
  readonly #ended = new AbortController();
  #channel: ConsumerChannel | undefined;
  #starting: Promise<void> | undefined;
  #cancelling: Promise<void> | undefined;

  constructor(host: ConsumerHost, queue: string, options: ConsumeOptions, onDelivery: (delivery: Delivery) => void) {
    this.#host = host;
    this.queue = queue;
    this.#options = options;
    this.#onDelivery = onDelivery;
  }

  get hasEnded(): boolean {
    return this.#ended.signal.aborted;
  }

  /**
   * Consumes on this connection for the first time.
   * @throws BROKER_DOWN when the connection is lost meanwhile, INTERNAL when the broker refuses
   */
  async start(connection: Connection): Promise<void> {
    this.#starting = this.#start(connection);
    try {
      await this.#starting;
    } catch (error) {
      throw channelError(`consume ${this.queue}`, error);
    }
  }

  /** Consumes on a new connection. What the broker refuses now is tried again with backoff. @throws BROKER_DOWN */
  async restart(connection: Connection): Promise<void> {
    try {
      await this.start(connection);
    } catch (error) {
      if (error instanceof FuncatronError && error.code === 'BROKER_DOWN') throw error;
      this.#complain(error);
      void this.#resume();
    }
  }

  cancel(): Promise<void> {
    this.#cancelling ??= this.#cancel();
    return this.#cancelling;
  }

  async #cancel(): Promise<void> {
    if (!this.hasEnded) this.#end();
    await this.#starting?.catch(() => {}); // however a start under way went, the consumer is over
    await this.#channel?.retire();
  }

  async #start(connection: Connection): Promise<void> {
    // The queue may go again between its declaration and its use; that is not ours to fight for ever.
    for (let round = 0; round < 3 && !this.hasEnded; round++) {
      try {
        return await this.#consume(connection);
      } catch (error) {
        if (replyCodeOf(error) !== ReplyCode.notFound) throw error;
      }
      if (!(await this.#host.redeclare(connection, this.queue))) break;
    }
    if (this.hasEnded) return;
    this.#end();
    this.#options.onGone?.();
  }

  async #consume(connection: Connection): Promise<void> {
    const { prefetch } = this.#options;
    const channel = new ConsumerChannel(await openQuietChannel(connection), this.#onDelivery, this.#host.log);
    await channel.consume(this.queue, prefetch, () => this.#lost(channel));
    this.#channel = channel;
    if (this.hasEnded) await channel.retire();
    else if (!channel.consuming) this.#lost(channel); // lost in the very turn it began
  }

  /** The broker closed the channel, or cancelled the consumer because its queue went. */
  #lost(channel: ConsumerChannel): void {
    if (this.#channel !== channel || this.hasEnded) return;
    this.#channel = undefined;
    void channel.retire();
    void this.#resume();
  }

  /** Never rejects. When the connection is gone, its set-up starts the consumer again. */
  async #resume(): Promise<void> {
    for (let attempt = 0; !this.hasEnded; attempt++) {
      await delay(backoffMs(attempt), this.#ended.signal);
      const connection = this.#host.connection.current;
      if (connection === undefined || this.#channel !== undefined) return;
      try {
        return await this.start(connection);
      } catch (error) {
        this.#complain(error);
      }
    }
  }

  #complain(error: unknown): void {
    this.#host.log.warn({ queue: this.queue, reason: String(error) }, 'consumer cannot resume');
  }

  #end(): void {
    this.#ended.abort();
    this.#host.ended(this);
  }
}
