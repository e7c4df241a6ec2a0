/**
 * What a bundle's author imports: types, and `reply`. No dependencies; `pack` inlines it.
 *
 * @example
 * import { type Func, reply } from 'funcatron';
 * export const getOrder: Func = async (event, context) => {
 *   const order = await context.services.kv.get(`order:${event.params.id}`);
 *   return order ?? reply(404, { error: 'no such order' });
 * };
 */

/** A value whose type the bundle's document declares; TypeScript cannot see it, so authors narrow it by annotation. */
// oxlint-disable-next-line typescript/no-explicit-any -- the document, not TypeScript, checks these values
export type Declared = any;

/**
 * A func: the export named like the operationId. Returns a value (200 JSON), bytes or text (as is), nothing (204),
 * `reply(…)`, a `Response`, or a `Stream`; so a generator function is one too.
 */
export type Func<Body = Declared, Result = unknown> = (
  event: FuncEvent<Body>,
  context: Context,
) => Result | Promise<Result>;

/** One call or event as the func sees it. */
export interface FuncEvent<Body = Declared> {
  /** UUIDv7 of the call; the same on every attempt. */
  readonly id: string;
  readonly kind: 'call' | 'event';
  /** Where it came from: `http`, `queue`, or `invoke` when another func made the call. */
  readonly trigger: string;
  /** When the edge took it, ISO 8601. */
  readonly time: string;
  /** 1 on the first attempt. */
  readonly attempt: number;
  readonly contentType: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of an HTTP call; empty strings and objects otherwise. */
  readonly method: string;
  readonly path: string;
  /** Path parameters, coerced as the document says. */
  readonly params: Readonly<Record<string, Declared>>;
  readonly query: Readonly<Record<string, Declared>>;
  readonly cookies: Readonly<Record<string, Declared>>;
  /** The client's `Idempotency-Key`, where it sent one. */
  readonly idempotencyKey: string | undefined;
  /** Parsed by content type: JSON → value, form → object, text → string, multipart → object of fields, else bytes. */
  readonly body: Body;
  /** The body exactly as received. */
  bytes(): Uint8Array;
  text(): string;
  json(): unknown;
  /**
   * The body in pieces, as they come; to be read once. In an operation with `x-funcatron.direct: true` the only way to
   * read it; elsewhere it is one piece. Rejects with an `AbortError` when the body breaks off. The sender waits while
   * 1 MiB is not read.
   */
  stream(): AsyncIterableIterator<Uint8Array>;
  /**
   * The parts of a `multipart/form-data` body, one after the other, as they come; instead of `stream()`, and to be read
   * once. At most 1000 parts. What is no multipart body rejects with `INVALID_REQUEST`, which answers 400 where the func
   * lets it through.
   */
  parts(): AsyncIterableIterator<Part>;
}

/** A part of a multipart body. It is there until the next one is asked for; what was not read of it by then is passed over. */
export interface Part {
  /** Of the form's field; '' when the part does not say. */
  readonly name: string;
  /** As the client says, `undefined` for a field that is no file. No path to be trusted. */
  readonly filename: string | undefined;
  readonly contentType: string;
  /** Its bytes as they come, once. */
  stream(): AsyncIterableIterator<Uint8Array>;
  /** All of them; more than `maxBytes` (default 1 MiB) reject with `PAYLOAD_TOO_LARGE`, which answers 413. */
  bytes(maxBytes?: number): Promise<Uint8Array>;
  text(maxBytes?: number): Promise<string>;
}

/** A piece of a body that is made piece by piece: text and bytes as they are, anything else as a line of JSON. */
export type Piece = Declared;

/**
 * A body that is made piece by piece, no faster than it is read: an async generator, a `ReadableStream`, any iterator.
 * What a generator returns are the trailers. When nobody reads on, `context.signal` aborts and `finally` runs.
 */
export type Stream = AsyncIterable<Piece> | IterableIterator<Piece>;

/** What a func gets beside its event. */
export interface Context {
  readonly bundle: string;
  readonly revision: string;
  readonly operationId: string;
  readonly callId: string;
  /** Unix ms. */
  readonly deadline: number;
  remainingMs(): number;
  /** Aborts when the client hangs up or the deadline passes. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** `x-funcatron.config`. */
  readonly config: Readonly<Record<string, Declared>>;
  /** Values of the secrets that `x-funcatron.secrets` names. */
  readonly secrets: Readonly<Record<string, string>>;
  /** As declared in `x-funcatron.services`. */
  readonly services: Services;
  /** Kept between calls of one worker; gone with it. */
  readonly state: Record<string, Declared>;
  /**
   * Calls an operation of another bundle, or of this one, over the queue, within what is left of this call's deadline.
   * Rejects with an `Error` whose `code` says why there is no answer (`TIMEOUT`, `NO_RUNNER`, `FUNC_ERROR`,
   * `INVALID_REQUEST`, `LOOP_DETECTED` where funcs called one another more than 10 deep); an answer with a status of 400
   * and above is an answer.
   */
  invoke<Body = Declared>(bundle: string, operationId: string, input?: InvokeInput): Promise<InvokeResult<Body>>;
}

/** What an invoked operation gets; the document of its bundle says what is valid. */
export interface InvokeInput {
  readonly params?: Readonly<Record<string, string | number | boolean>>;
  readonly query?: Readonly<Record<string, string | number | boolean | readonly (string | number | boolean)[]>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes and text as they are, everything else as JSON; a `content-type` header overrides what they are called. */
  readonly body?: unknown;
}

/** What an invoked operation answered; the body parsed by its content type, as `event.body` is. */
export interface InvokeResult<Body = Declared> {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: Body;
}

/** What `init` and `destroy` get. */
export type InitContext = Pick<Context, 'bundle' | 'revision' | 'log' | 'config' | 'secrets' | 'services' | 'state'>;

/** Lines go to `funcatron logs`, with the call's id. */
export interface Logger {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** Declare `services: { kv: { type: kv } }` to have `context.services.kv`. */
export interface Services {
  readonly kv: Kv;
  readonly [name: string]: Declared;
}

/**
 * `type: postgres`. The first query of a call begins a transaction, which is committed before the call's answer leaves;
 * it is rolled back when the func throws, answers with a status of 500 or more, is cancelled or dies. In `init` each
 * query is its own.
 */
export interface Postgres {
  /** boolean, number, json and null come as such, bytea as Uint8Array, all else (int8, numeric, dates, arrays) as PostgreSQL writes it. */
  query<Row = Declared>(sql: string, parameters?: readonly unknown[]): Promise<PostgresResult<Row>>;
}

export interface PostgresResult<Row = Declared> {
  readonly rows: readonly Row[];
  /** Rows that were read, or written. */
  readonly rowCount: number;
  /** Columns, with the OID of their type. */
  readonly fields: readonly { readonly name: string; readonly type: number }[];
}

/** `type: redis`. No commands that block, subscribe or change the connection: calls share it. */
export interface Redis {
  command<T = Declared>(name: string, ...args: readonly (string | number | bigint)[]): Promise<T>;
  get(key: string): Promise<string | null>;
  set(key: string, value: string | number | bigint, options?: { ttlMs?: number }): Promise<void>;
  del(...keys: readonly string[]): Promise<number>;
  incr(key: string, by?: number | bigint): Promise<number>;
  /** Whether there was such a key. */
  expire(key: string, ttlMs: number): Promise<boolean>;
}

/** `type: http`. */
export interface Http {
  /** Like `fetch`, with a path below the base URL; the runner adds the credentials. Redirects are not followed. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
}

/** `type: amqp`. */
export interface Amqp {
  /** Settles when the broker has confirmed the message. A body that is no string and no bytes is sent as JSON. */
  publish(exchange: string, key: string, body: unknown, options?: AmqpOptions): Promise<void>;
}

export interface AmqpOptions {
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string | number | boolean>>;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly replyTo?: string;
  readonly type?: string;
  readonly priority?: number;
  readonly expirationMs?: number;
  /** Default true. */
  readonly persistent?: boolean;
  /** Default true: a message that no queue takes is an error. */
  readonly mandatory?: boolean;
}

/** JSON values by key, in the cluster's store, per bundle. */
export interface Kv {
  get<T = Declared>(key: string): Promise<T | undefined>;
  set(key: string, value: unknown, options?: { ttlMs?: number }): Promise<void>;
  delete(key: string): Promise<boolean>;
  /** Adds `by` (default 1) and returns the sum; the key counts from 0. Atomic. */
  incr(key: string, by?: number, options?: { ttlMs?: number }): Promise<number>;
}

/** What `reply` makes. */
export interface Reply {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
}

const REPLY = Symbol.for('funcatron.reply');

/** Exactly this status, body and headers. A `Stream` is sent as it is made, any other body that is no string and no bytes as JSON. */
export function reply(status: number, body?: unknown, headers: Record<string, string | readonly string[]> = {}): Reply {
  return { [REPLY]: true, status, body, headers } as Reply;
}

/**
 * What a func returned with these headers added, whatever it is: what a middleware returns. Headers the func set stay
 * where the names differ.
 */
export function withHeaders(result: unknown, headers: Reply['headers']): Reply {
  if (result === undefined) return reply(204, undefined, { ...headers });
  if (typeof result !== 'object' || result === null || !(REPLY in result)) return reply(200, result, { ...headers });
  const { status, body, headers: own } = result as unknown as Reply;
  return reply(status, body, { ...own, ...headers });
}

export type * from './providers.ts';
export * from './sse.ts';
