import { FuncatronError } from '../errors.ts';
import type { Channel, Connection } from './amqp-connection.ts';

/** AMQP 0-9-1 reply codes a channel is closed with (specification §1.2). */
export const ReplyCode = { notFound: 404 } as const;

/** The reply code the broker closed the channel with, or `undefined` when the connection was lost instead. */
export function replyCodeOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'number' ? error.code : undefined;
}

/** The error for what could not be done because the broker is away. */
export function brokerDown(what: string, cause?: unknown): FuncatronError {
  return new FuncatronError('BROKER_DOWN', `${what}: the broker cannot be reached`, {
    cause,
    data: { retryAfterS: 1 },
  });
}

/** Any failure of a channel operation: BROKER_DOWN when the connection was lost, else INTERNAL with the broker's words. */
export function channelError(what: string, error: unknown): FuncatronError {
  if (error instanceof FuncatronError) return error;
  if (replyCodeOf(error) === undefined) return brokerDown(what, error);
  return new FuncatronError('INTERNAL', `${what}: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  });
}

/** A channel whose errors end nothing but itself: what went wrong also rejects the operation that caused it. */
export async function openQuietChannel(connection: Connection): Promise<Channel> {
  const channel = await connection.createChannel();
  channel.on('error', () => {});
  return channel;
}

/**
 * Short-lived channels for declaring, probing and deleting: the broker closes a channel on the first thing it refuses,
 * so no two operations share one, and none of them is a publisher's or a consumer's. The last good one is kept.
 */
export class SetupChannels {
  #idle: Channel | undefined;

  /**
   * Runs `work` on a channel of its own.
   * @throws BROKER_DOWN when there is no connection, else what `work` threw: see `replyCodeOf` and `channelError`
   */
  async use<T>(connection: Connection | undefined, what: string, work: (channel: Channel) => Promise<T>): Promise<T> {
    if (connection === undefined) throw brokerDown(what);
    const channel = this.#takeIdle() ?? (await this.#open(connection, what));
    try {
      const result = await work(channel);
      this.#keep(channel);
      return result;
    } catch (error) {
      discard(channel);
      throw error;
    }
  }

  #takeIdle(): Channel | undefined {
    const channel = this.#idle;
    this.#idle = undefined;
    return channel;
  }

  async #open(connection: Connection, what: string): Promise<Channel> {
    try {
      const channel = await openQuietChannel(connection);
      channel.once('close', () => {
        if (this.#idle === channel) this.#idle = undefined;
      });
      return channel;
    } catch (error) {
      throw brokerDown(what, error);
    }
  }

  #keep(channel: Channel): void {
    if (this.#idle === undefined) this.#idle = channel;
    else discard(channel);
  }
}

/** Closing is a courtesy: it fails only where the channel is gone already. */
function discard(channel: Channel): void {
  channel.close().catch(() => {});
}
