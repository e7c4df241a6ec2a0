import { backoffMs } from '../deadline.ts';
import { delay } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import type { ConfirmChannel, Connection, Message, SupervisedConnection } from './amqp-connection.ts';
import { toPublishOptions } from './amqp-properties.ts';
import { MAX_BODY_BYTES, type OutgoingMessage, type PublishOutcome } from './broker.ts';

/** What may wait for its confirm, in this process, in amqplib's buffers and on the socket together. */
const MAX_UNCONFIRMED_BYTES = 64 * 1024 * 1024;
const MAX_UNCONFIRMED = 65_536;

const DOWN = Promise.resolve<PublishOutcome>('down');
const REFUSED = Promise.resolve<PublishOutcome>('refused');

interface Unconfirmed {
  settle: (outcome: PublishOutcome) => void;
  readonly bytes: number;
}

/**
 * Publishes on one confirm channel and tells what became of each message.
 *
 * The channel numbers messages 1, 2, 3 …; the broker confirms by that number, alone or up to it. A mandatory message
 * that no queue takes comes back before its confirm, without its number: so it carries it, as `app-id`.
 * Everything that waits for its confirm is bounded in count and bytes; above the bound a message is `refused`, like by
 * a full queue. That also bounds what amqplib buffers when the socket does not drain, or the broker blocks it.
 * Publishing to an exchange that does not exist costs the channel: that message and all unconfirmed ones are `lost`.
 */
export class Publisher {
  readonly #connection: SupervisedConnection;
  readonly #log: Log;
  readonly #unconfirmed = new Map<number, Unconfirmed>();
  #channel: ConfirmChannel | undefined;
  #lastTag = 0;
  #bytes = 0;
  #onEmpty: (() => void) | undefined;

  constructor(connection: SupervisedConnection, log: Log) {
    this.#connection = connection;
    this.#log = log;
  }

  /** Opens the channel on a new connection. */
  async open(connection: Connection): Promise<void> {
    const channel = await connection.createConfirmChannel();
    channel.on('error', (error: Error) => this.#log.warn({ reason: error.message }, 'publishing channel closed'));
    channel.on('ack', ({ deliveryTag, multiple }) => this.#settle(deliveryTag, multiple, 'accepted'));
    channel.on('nack', ({ deliveryTag, multiple }) => this.#settle(deliveryTag, multiple, 'refused'));
    channel.on('return', (message) => this.#returned(message));
    channel.once('close', () => this.#closed(channel));
    this.#lastTag = 0;
    this.#channel = channel;
  }

  /** Sends a message; see `Broker.publish`. */
  publish(message: OutgoingMessage): Promise<PublishOutcome> {
    const channel = this.#channel;
    if (channel === undefined) return DOWN;
    const bytes = message.body.length;
    if (bytes > MAX_BODY_BYTES) return this.#refuse(message, `its body of ${bytes} bytes is over ${MAX_BODY_BYTES}`);
    if (this.#bytes + bytes > MAX_UNCONFIRMED_BYTES || this.#unconfirmed.size >= MAX_UNCONFIRMED) return REFUSED;
    const tag = this.#lastTag + 1;
    const options = toPublishOptions(message, message.mandatory === true ? String(tag) : undefined);
    try {
      channel.publish(message.exchange, message.routingKey, message.body, options);
    } catch (error) {
      // Either the channel closed a moment ago, or what was asked cannot be encoded (a header table over 64 KiB, a
      // routing key over 255 bytes): amqplib encodes before it writes, so nothing left.
      if (this.#channel === undefined || isClosed(error)) return DOWN;
      return this.#refuse(message, String(error));
    }
    this.#lastTag = tag;
    this.#bytes += bytes;
    const { promise, resolve } = Promise.withResolvers<PublishOutcome>();
    this.#unconfirmed.set(tag, { settle: resolve, bytes });
    return promise;
  }

  /** Settles when nothing waits for a confirm any more. */
  drained(): Promise<void> {
    if (this.#unconfirmed.size === 0) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    return promise;
  }

  #settle(tag: number, multiple: boolean, outcome: PublishOutcome): void {
    if (!multiple) return this.#settleOne(tag, outcome);
    for (const each of this.#unconfirmed.keys()) {
      if (each > tag) return; // a Map keeps the order of publishing
      this.#settleOne(each, outcome);
    }
  }

  #settleOne(tag: number, outcome: PublishOutcome): void {
    const unconfirmed = this.#unconfirmed.get(tag);
    if (unconfirmed === undefined) return; // it was returned
    this.#unconfirmed.delete(tag);
    this.#bytes -= unconfirmed.bytes;
    const { settle } = unconfirmed;
    // Old tables of the Map keep their entries for a while, and would keep what waits for this outcome with them.
    unconfirmed.settle = nobody;
    settle(outcome);
    if (this.#unconfirmed.size === 0) this.#onEmpty?.();
  }

  #returned(message: Message): void {
    this.#settleOne(Number(message.properties.appId), 'returned');
  }

  #closed(channel: ConfirmChannel): void {
    if (this.#channel !== channel) return;
    this.#channel = undefined;
    for (const tag of this.#unconfirmed.keys()) this.#settleOne(tag, 'lost');
    void this.#reopen();
  }

  /** After a channel error; when the whole connection went, its set-up opens the channel. Never rejects. */
  async #reopen(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      await delay(backoffMs(attempt), this.#connection.signal);
      const connection = this.#connection.signal.aborted ? undefined : this.#connection.current;
      if (connection === undefined || this.#channel !== undefined) return;
      try {
        return await this.open(connection);
      } catch (error) {
        this.#log.warn({ reason: String(error) }, 'publishing channel cannot be opened');
      }
    }
  }

  #refuse(message: OutgoingMessage, reason: string): Promise<PublishOutcome> {
    const { exchange, routingKey } = message;
    this.#log.error({ exchange, routingKey, reason }, 'message refused before it was sent');
    return REFUSED;
  }
}

function nobody(): void {}

function isClosed(error: unknown): boolean {
  return error instanceof Error && error.name === 'IllegalOperationError';
}
