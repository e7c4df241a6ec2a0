import { connect, type ChannelModel, type ConfirmChannel, type Message, type Options } from 'amqplib';
import { FuncatronError } from '../../core/errors.ts';
import { newId } from '../../core/id.ts';
import { within } from '../../core/lifecycle.ts';
import type { GuestOperation } from '../isolate/isolate.ts';
import { deadlineOf, runMsOf, type Service, serviceError, unreachable, waitMsOf } from './service.ts';

/** Messages that wait for their confirm, of one service. */
const MAX_UNCONFIRMED = 1_000;
const CONNECT_MS = 5_000;
const CLOSE_MS = 2_000;
const HEARTBEAT_S = 10;

type Properties = Options.Publish & { readonly messageId: string };

/**
 * `context.services.<name>` of type amqp: messages to a user's own broker, confirmed.
 *
 * ```
 * amqp.publish {exchange, key, options, deadline?}, bytes: the body → {}
 * ```
 * One confirm channel for all calls, opened when it is needed and again after it was lost. A message is sent once.
 * @param exchanges the only ones the bundle may publish to; default: any
 */
export function createAmqp(name: string, url: string, exchanges: readonly string[] | undefined): Service {
  const publisher = new Publisher(name, url);
  return {
    vends: false,
    async run(request) {
      const { exchange, key, options } = messageOf(name, request);
      if (exchanges !== undefined && !exchanges.includes(exchange)) {
        throw new FuncatronError(
          'FORBIDDEN',
          `service ${name} may not publish to exchange ${JSON.stringify(exchange)}`,
        );
      }
      await publisher.publish(exchange, key, request.bytes, options, deadlineOf(request));
      return { result: {} };
    },
    close: () => publisher.close(),
  };
}

interface Open {
  readonly connection: ChannelModel;
  readonly channel: ConfirmChannel;
  /** What to do with a message that waits for its confirm, by its id: also when the channel is lost. */
  readonly waiting: Map<string, (failure: Error | undefined) => void>;
}

class Publisher {
  readonly #service: string;
  readonly #url: string;
  #open: Promise<Open> | undefined;
  /** Stands for the connection that counts: the end of one before it says nothing of this one. */
  #current: object | undefined;
  #isClosed = false;

  constructor(service: string, url: string) {
    this.#service = service;
    this.#url = url;
  }

  async publish(
    exchange: string,
    key: string,
    body: Buffer,
    properties: Properties,
    deadline: number | undefined,
  ): Promise<void> {
    this.#open ??= this.#connect();
    const busy = new FuncatronError('SERVICE_BUSY', `service ${this.#service} was not ready in time`);
    const open = await raced(this.#open, waitMsOf(deadline), busy);
    if (open.waiting.size >= MAX_UNCONFIRMED || open.waiting.has(properties.messageId)) throw busy;
    const sent = new Promise<void>((resolve, reject) => {
      open.waiting.set(properties.messageId, (failure) => {
        open.waiting.delete(properties.messageId);
        if (failure === undefined) resolve();
        else reject(failure);
      });
      open.channel.publish(exchange, key, body, properties, (error: unknown) => {
        const failure = serviceError('NACKED', `service ${this.#service}: the broker refused the message`);
        open.waiting.get(properties.messageId)?.(error === null || error === undefined ? undefined : failure);
      });
    });
    await raced(
      sent,
      runMsOf(deadline),
      new FuncatronError('TIMEOUT', `service ${this.#service} did not confirm in time`),
    );
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const open = await this.#open?.catch(() => undefined);
    if (open === undefined) return;
    // It may be lost already, or its broker silent.
    await within(open.connection.close(), CLOSE_MS, 'the broker is silent').catch(() => undefined);
  }

  async #connect(): Promise<Open> {
    const own = {};
    this.#current = own;
    try {
      const connection = await connect(withHeartbeat(this.#url), { timeout: CONNECT_MS });
      const waiting: Open['waiting'] = new Map();
      const lose = (reason: unknown): void => {
        if (this.#current === own) this.#open = undefined;
        const failure = unreachable(this.#service, reason);
        for (const settle of waiting.values()) settle(failure);
      };
      connection.on('error', lose);
      connection.on('close', lose);
      const channel = await connection.createConfirmChannel();
      // An exchange that does not exist closes the channel, with every message that is not confirmed yet.
      channel.on('error', (error: Error & { code?: number }) => {
        const failure = serviceError(`AMQP_${error.code ?? ''}`, `service ${this.#service}: ${error.message}`);
        for (const settle of waiting.values()) settle(failure);
      });
      channel.on('close', () => {
        lose(undefined);
        connection.close().catch(() => undefined); // It may be lost already.
      });
      // Comes before the confirm of the same message.
      channel.on('return', ({ properties, fields }: Message) => {
        const target = `exchange ${JSON.stringify(fields.exchange)} with key ${JSON.stringify(fields.routingKey)}`;
        const failure = serviceError('UNROUTABLE', `service ${this.#service}: no queue takes messages of ${target}`);
        waiting.get(String(properties.messageId))?.(failure);
      });
      if (this.#isClosed) await connection.close();
      return { connection, channel, waiting };
    } catch (error) {
      this.#open = undefined;
      throw unreachable(this.#service, error);
    }
  }
}

function withHeartbeat(text: string): string {
  const url = new URL(text);
  if (!url.searchParams.has('heartbeat')) url.searchParams.set('heartbeat', String(HEARTBEAT_S));
  return url.href;
}

function messageOf(
  name: string,
  { name: operation, args }: GuestOperation,
): { exchange: string; key: string; options: Properties } {
  const { exchange, key, options } = args;
  const isText = typeof exchange === 'string' && typeof key === 'string' && exchange.length <= 255 && key.length <= 255;
  if (operation === 'amqp.publish' && isText && typeof options === 'object' && options !== null) {
    return { exchange, key, options: propertiesOf(options as Readonly<Record<string, unknown>>) };
  }
  throw new FuncatronError('INVALID_REQUEST', `service ${name} cannot do ${operation} with these arguments`);
}

function propertiesOf(given: Readonly<Record<string, unknown>>): Properties {
  const properties: Record<string, unknown> = {};
  for (const key of ['contentType', 'correlationId', 'replyTo', 'type'] as const) {
    if (typeof given[key] === 'string') properties[key] = given[key];
  }
  const { messageId, priority, expirationMs, headers } = given;
  if (Number.isSafeInteger(priority)) properties['priority'] = priority;
  // Anything but a whole number of milliseconds closes the channel.
  if (Number.isSafeInteger(expirationMs)) properties['expiration'] = Math.max(1, expirationMs as number);
  if (typeof headers === 'object' && headers !== null) properties['headers'] = headers;
  return {
    ...properties,
    messageId: typeof messageId === 'string' ? messageId : newId(),
    persistent: given['persistent'] !== false,
    mandatory: given['mandatory'] !== false,
  };
}

async function raced<T>(promise: Promise<T>, ms: number, late: Error): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late), ms);
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
