import { connect, type Channel, type ChannelModel, type ConfirmChannel, type Message } from 'amqplib';
import { backoffMs } from '../deadline.ts';
import { delay, within, type Closable } from '../lifecycle.ts';
import { joinWrites } from './amqp-writes.ts';

export type { Channel, ConfirmChannel, Message };

/** A live AMQP connection: opens channels, tells when the broker blocks it. */
export type Connection = ChannelModel;

/** How one supervised connection is made, and who hears of it. */
export interface ConnectionOptions {
  /** Nodes of one cluster, tried in turn. */
  readonly urls: readonly string[];
  /** What RabbitMQ shows as the connection's name. */
  readonly name: string;
  readonly heartbeatS: number;
  /** Runs on each new connection before it counts as up. When it throws, the connection is dropped and made anew. */
  readonly setup: (connection: Connection) => Promise<void>;
  readonly onUp: () => void;
  readonly onDown: (reason: Error) => void;
  readonly onBlocked: (blocked: boolean) => void;
  /** An attempt failed; another one follows. `address` is `host:port`, without credentials. */
  readonly onFailure: (address: string, reason: Error) => void;
}

const CONNECT_TIMEOUT_MS = 10_000;
const SETUP_TIMEOUT_MS = 60_000;
const CLOSE_TIMEOUT_MS = 2_000;
/** Soon enough for calls that wait for their reply, late enough for a broker all clients come back to at once. */
const BACKOFF_CAP_MS = 2_000;
/** A connection, or an attempt, that took this long starts the backoff anew. */
const STABLE_MS = 1_000;

/**
 * One AMQP connection, made again whenever it is lost, until `close`.
 *
 * States: connecting → setting up → up → lost → (backoff, full jitter) → connecting.
 *
 * amqplib 2.x has a recovery of its own, which is not used: a connection error while its `setup` runs is an uncaught
 * 'error', a connection that dies during a `setup` that does not notice is bound and never left again, and `setup` has
 * no bound. Here the set-up races the connection's end and a timer, and whoever loses changes nothing.
 */
export class SupervisedConnection implements Closable {
  readonly #options: ConnectionOptions;
  readonly #stop = new AbortController();
  #current: Connection | undefined;
  #settingUp: Promise<void> | undefined;
  #supervision: Promise<void> | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** The connection when it is up. */
  get current(): Connection | undefined {
    return this.#current;
  }

  /** The connection, or `undefined` when it is down now; waits for a set-up under way. */
  async available(): Promise<Connection | undefined> {
    await this.#settingUp?.catch(() => {}); // reported by the supervision
    return this.#current;
  }

  /** Aborts when the connection is closed for good. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Begins to connect; returns at once. */
  start(): void {
    this.#supervision ??= this.#supervise();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#supervision;
  }

  async #supervise(): Promise<void> {
    const { urls } = this.#options;
    let failures = 0;
    for (let node = 0; !this.signal.aborted; node = (node + 1) % urls.length) {
      const startedMs = performance.now();
      await this.#live(urls[node] ?? '');
      failures = performance.now() - startedMs > STABLE_MS ? 0 : failures + 1;
      // All nodes are tried before the wait grows.
      await delay(backoffMs(Math.floor(failures / urls.length), 50, BACKOFF_CAP_MS), this.signal);
    }
  }

  /** One connection from birth to death; never rejects. */
  async #live(url: string): Promise<void> {
    const socket = new AbortController();
    const { onFailure, onUp, onDown } = this.#options;
    try {
      const connection = await this.#connect(url, socket);
      const ended = new Promise<Error>((resolve) => {
        connection.once('close', (reason?: Error) => resolve(reason ?? new Error('the connection was closed')));
      });
      const hangUp = (): void => void closeConnection(connection, socket);
      this.signal.addEventListener('abort', hangUp, { once: true });
      if (this.signal.aborted) hangUp();
      try {
        const setup = orEnded(this.#options.setup(connection), ended);
        this.#settingUp = within(setup, SETUP_TIMEOUT_MS, `setting up took longer than ${SETUP_TIMEOUT_MS} ms`);
        await this.#settingUp;
        this.#current = connection;
        onUp();
        const reason = await ended;
        this.#current = undefined;
        onDown(reason);
      } finally {
        this.#current = undefined;
        this.signal.removeEventListener('abort', hangUp);
      }
    } catch (error) {
      if (!this.signal.aborted) onFailure(addressOf(url), explain(error));
    } finally {
      // amqplib only half-closes a socket whose peer has gone silent: without this it would stay for ever.
      socket.abort();
    }
  }

  async #connect(url: string, socket: AbortController): Promise<Connection> {
    const hangUp = (): void => socket.abort();
    this.signal.addEventListener('abort', hangUp, { once: true });
    const timer = setTimeout(hangUp, CONNECT_TIMEOUT_MS);
    const options = {
      // amqplib leaves Nagle's algorithm on by default: request/reply 44 ms → 0.6 ms.
      noDelay: true,
      clientProperties: { connection_name: this.#options.name },
      signal: socket.signal,
    };
    try {
      const connection = await connect(withHeartbeat(url, this.#options.heartbeatS), options);
      // 'close' follows with the same reason; an 'error' nobody listens to would end the process.
      connection.on('error', () => {});
      joinWrites(connection);
      connection.on('blocked', () => this.#options.onBlocked(true));
      connection.on('unblocked', () => this.#options.onBlocked(false));
      return connection;
    } catch (error) {
      if (socket.signal.aborted) throw new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`, { cause: error });
      throw error;
    } finally {
      clearTimeout(timer);
      this.signal.removeEventListener('abort', hangUp);
    }
  }
}

/** The work's outcome, or the reason the connection ended if that comes first. */
async function orEnded<T>(work: Promise<T>, ended: Promise<Error>): Promise<T> {
  const lost = ended.then((reason) => {
    throw reason;
  });
  return await Promise.race([work, lost]);
}

async function closeConnection(connection: Connection, socket: AbortController): Promise<void> {
  try {
    await within(connection.close(), CLOSE_TIMEOUT_MS, 'no goodbye from the broker');
  } catch {
    // It is gone already, or silent; either way the socket goes now.
    socket.abort();
  }
}

/** Heartbeats can only be asked for in the URL: in the socket options amqplib ignores them. */
function withHeartbeat(url: string, heartbeatS: number): string {
  const parsed = new URL(url);
  if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', String(heartbeatS));
  return parsed.href;
}

function addressOf(url: string): string {
  return new URL(url).host;
}

/** amqplib tells a refused vhost by an unexpected frame only. */
function explain(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  if (!error.message.includes('<ConnectionClose')) return error;
  return new Error('the broker closed the connection after login: does the vhost exist, and may this user use it?', {
    cause: error,
  });
}
