import { copyOf, viewOf } from './bytes.ts';
import { encodeUtf8 } from './encoding.ts';
import { Request, type RequestInit, type Response, sendThrough } from './fetch.ts';
import { decodeRow, encodeParameter, type Field, type Row } from './postgres-values.ts';
import { ask, askScoped, type ServiceCall } from './services-call.ts';

/** Services outside of the cluster, as a func sees them. The runner holds their addresses, credentials and connections. */

/** What a query gives. */
interface QueryResult {
  readonly rows: readonly Row[];
  readonly rowCount: number;
  readonly fields: readonly Field[];
}

export class Postgres {
  readonly #service: string;
  readonly #call: ServiceCall | undefined;
  constructor(service: string, call: ServiceCall | undefined) {
    this.#service = service;
    this.#call = call;
  }

  /** The first query of a call begins its transaction. */
  async query(sql: string, parameters: readonly unknown[] = []): Promise<QueryResult> {
    if (typeof sql !== 'string') throw new TypeError('query(sql, parameters): sql must be a string');
    const args = { sql, parameters: Array.from(parameters, encodeParameter) };
    const { result } = await askScoped('postgres.query', this.#service, args, this.#call).outcome;
    const { fields, rows, rowCount } = result as { fields: Field[]; rows: (string | null)[][]; rowCount: number };
    return { rows: rows.map((row) => decodeRow(fields, row)), rowCount, fields };
  }
}

type Argument = string | number | bigint;

export class Redis {
  readonly #service: string;
  readonly #call: ServiceCall | undefined;
  constructor(service: string, call: ServiceCall | undefined) {
    this.#service = service;
    this.#call = call;
  }

  async command(name: string, ...args: readonly Argument[]): Promise<unknown> {
    const words = [name, ...args].map((word) => textOf(word));
    const { result } = await ask('redis.command', this.#service, { words }, this.#call).outcome;
    return result['value'];
  }
  async get(key: string): Promise<unknown> {
    return await this.command('get', key);
  }
  async set(key: string, value: Argument, options: { readonly ttlMs?: number } = {}): Promise<void> {
    await this.command('set', key, value, ...(options.ttlMs === undefined ? [] : ['px', options.ttlMs]));
  }
  async del(...keys: readonly string[]): Promise<unknown> {
    return await this.command('del', ...keys);
  }
  async incr(key: string, by: number | bigint = 1): Promise<unknown> {
    return await this.command('incrby', key, by);
  }
  /** Whether there was such a key. */
  async expire(key: string, ttlMs: number): Promise<boolean> {
    return (await this.command('pexpire', key, ttlMs)) === 1;
  }
}

function textOf(word: unknown): string {
  if (typeof word === 'string' || typeof word === 'number' || typeof word === 'bigint') return String(word);
  throw new TypeError(`an argument of a Redis command is a string or a number, not ${typeof word}`);
}

export class Http {
  readonly #service: string;
  readonly #call: ServiceCall | undefined;
  constructor(service: string, call: ServiceCall | undefined) {
    this.#service = service;
    this.#call = call;
  }

  /** Like the global `fetch`, with a path below the service's base URL. */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const request = new Request(path, init);
    return await sendThrough(request, (args, bytes) => ask('http.fetch', this.#service, args, this.#call, bytes));
  }
}

/** What goes with a message. */
interface PublishOptions {
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string | number | boolean>>;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
  readonly type?: string;
  readonly priority?: number;
  /** How long the message may wait in a queue. */
  readonly expirationMs?: number;
  /** Default true. */
  readonly persistent?: boolean;
  /** Default true: a message that reaches no queue is an error. */
  readonly mandatory?: boolean;
}

export class Amqp {
  readonly #service: string;
  readonly #call: ServiceCall | undefined;
  constructor(service: string, call: ServiceCall | undefined) {
    this.#service = service;
    this.#call = call;
  }

  /** Settles when the broker has confirmed the message. A body that is no string and no bytes is sent as JSON. */
  async publish(exchange: string, key: string, body: unknown, options: PublishOptions = {}): Promise<void> {
    const view = viewOf(body);
    const isText = typeof body === 'string';
    const json = view === undefined && !isText ? JSON.stringify(body) : undefined;
    const bytes = view === undefined ? encodeUtf8(isText ? body : (json ?? '')) : copyOf(view);
    const contentType = options.contentType ?? (json === undefined ? undefined : 'application/json');
    const args = { exchange, key, options: { ...options, contentType } };
    await ask('amqp.publish', this.#service, args, this.#call, bytes).outcome;
  }
}
