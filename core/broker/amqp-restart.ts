import { bootQueue, type QueueSpec } from '../wire/topology.ts';
import type { Channel } from './amqp-connection.ts';
import { declareOn } from './amqp-topology.ts';
import type { OutgoingMessage, PublishOutcome } from './broker.ts';

/** Well within the hour after which the unused queue expires. */
const REFRESH_MS = 20 * 60_000;

/**
 * Tells whether the broker was restarted while we were away, which is the question whether transient messages are
 * gone: one of them waits in a queue of our own. When in doubt (it was not confirmed yet) the answer is yes.
 *
 * A transient exchange would tell the same without a message, but leaks when its client is killed: exchanges have no
 * `x-expires`.
 */
export class RestartMarker {
  readonly #queue: QueueSpec;
  #wasSet = false;
  #isThere = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(id: string) {
    this.#queue = bootQueue(id);
  }

  get queue(): string {
    return this.#queue.name;
  }

  /** Looks, on a new connection, whether the broker was restarted since the last one. */
  async check(channel: Channel): Promise<boolean> {
    await declareOn(channel, { queues: [this.#queue] });
    const { messageCount } = await channel.checkQueue(this.#queue.name);
    this.#isThere = messageCount > 0;
    return this.#wasSet && !this.#isThere;
  }

  /** Puts the marker where it is missing. */
  async set(publish: (message: OutgoingMessage) => Promise<PublishOutcome>): Promise<void> {
    if (this.#isThere) return;
    this.#isThere = true;
    this.#wasSet = true;
    await publish({
      exchange: '',
      routingKey: this.#queue.name,
      body: Buffer.alloc(0),
      properties: { persistent: false },
    });
  }

  /** Calls `use` now and then to keep the queue from expiring. */
  keep(use: () => Promise<unknown>): void {
    const refresh = (): void => {
      use().catch(() => {}); // the broker is away: the next connection declares the queue
    };
    this.#timer ??= setInterval(refresh, REFRESH_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
