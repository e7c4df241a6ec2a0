import type { AbortSignal } from './abort.ts';
import { copyOf, viewOf } from './bytes.ts';
import { DOMException } from './dom-exception.ts';
import { decodeUtf8, encodeUtf8 } from './encoding.ts';
import { type HeaderPairs, Headers, type HeadersInit } from './headers.ts';
import { begin, type Operation, type OperationResult, unlessAborted } from './operations.ts';

/**
 * `fetch`, `Request` and `Response`, performed by the runner. Bodies are whole, not streamed: at most 8 MiB.
 * Source: https://fetch.spec.whatwg.org/
 */

type BodyInit = string | ArrayBuffer | ArrayBufferView | object | null | undefined;

/** The bytes of a message, for a clone or a request on its way. */
let peek: (message: Message) => Uint8Array | undefined;

/** What requests and responses share. */
class Message {
  readonly headers: Headers;
  #bytes: Uint8Array | undefined;
  #isUsed = false;

  constructor(body: BodyInit, headers: HeadersInit | undefined) {
    this.headers = new Headers(headers);
    if (body === undefined || body === null) return;
    const [bytes, type] = toBytes(body);
    this.#bytes = bytes;
    if (type !== undefined && !this.headers.has('content-type')) this.headers.set('content-type', type);
  }

  get bodyUsed(): boolean {
    return this.#isUsed;
  }
  /** Streams are not there; the other readers are. */
  get body(): null {
    return null;
  }
  async bytes(): Promise<Uint8Array> {
    if (this.#isUsed) throw new TypeError('the body has been read already');
    this.#isUsed = this.#bytes !== undefined;
    return this.#bytes ?? new Uint8Array(0);
  }
  async arrayBuffer(): Promise<ArrayBuffer> {
    return copyOf(await this.bytes()).buffer as ArrayBuffer;
  }
  async text(): Promise<string> {
    const text = decodeUtf8(await this.bytes());
    return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  }
  async json(): Promise<unknown> {
    return JSON.parse(await this.text());
  }
  static {
    peek = (message) => {
      if (message.#isUsed) throw new TypeError('the body has been read already');
      return message.#bytes;
    };
  }
}

function toBytes(body: NonNullable<BodyInit>): [bytes: Uint8Array, type: string | undefined] {
  const view = viewOf(body);
  if (view !== undefined) return [copyOf(view), undefined];
  const isForm = typeof body === 'object' && body.constructor.name === 'URLSearchParams';
  const type = isForm ? 'application/x-www-form-urlencoded;charset=UTF-8' : 'text/plain;charset=UTF-8';
  // oxlint-disable-next-line typescript/no-base-to-string -- as the standard says: what is nothing else is a string
  return [encodeUtf8(String(body)), type];
}

export interface RequestInit {
  method?: unknown;
  headers?: HeadersInit;
  body?: BodyInit;
  redirect?: string;
  signal?: AbortSignal | null;
}

export class Request extends Message {
  readonly url: string;
  readonly method: string;
  readonly redirect: string;
  readonly signal: AbortSignal | null;

  constructor(input: unknown, init: RequestInit = {}) {
    const from = input instanceof Request ? input : undefined;
    super(init.body ?? (from === undefined ? undefined : peek(from)), init.headers ?? from?.headers);
    this.url = from?.url ?? String(input);
    this.method = normalMethod(init.method ?? from?.method ?? 'GET');
    this.redirect = init.redirect ?? from?.redirect ?? 'follow';
    this.signal = init.signal ?? from?.signal ?? null;
    if ((this.method === 'GET' || this.method === 'HEAD') && peek(this) !== undefined) {
      throw new TypeError(`a ${this.method} request cannot have a body`);
    }
  }
  clone(): Request {
    return new Request(this);
  }
}

function normalMethod(given: unknown): string {
  const method = String(given);
  const upper = method.toUpperCase();
  return ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH'].includes(upper) ? upper : method;
}

interface ResponseInit {
  status?: number;
  statusText?: string;
  headers?: HeadersInit;
}

export class Response extends Message {
  readonly status: number;
  readonly statusText: string;
  readonly url: string = '';
  readonly redirected: boolean = false;
  readonly type: string = 'default';

  constructor(body?: BodyInit, init: ResponseInit = {}) {
    super(body, init.headers);
    this.status = init.status ?? 200;
    this.statusText = init.statusText ?? '';
    if (!Number.isInteger(this.status) || this.status < 200 || this.status > 599) {
      throw new RangeError(`status ${this.status} is not an integer from 200 to 599`);
    }
  }
  get ok(): boolean {
    return this.status >= 200 && this.status < 300;
  }
  clone(): Response {
    const { status, statusText, headers, url, redirected } = this;
    return Object.assign(new Response(peek(this), { status, statusText, headers }), { url, redirected });
  }
  static json(value: unknown, init: ResponseInit = {}): Response {
    const response = new Response(JSON.stringify(value), init);
    if (new Headers(init.headers).get('content-type') === null)
      response.headers.set('content-type', 'application/json');
    return response;
  }
}

/** Sends the request through the runner, which decides what may be reached (docs/security.md). */
export async function fetch(input: unknown, init?: RequestInit): Promise<Response> {
  return await sendThrough(new Request(input, init), (args, bytes) => begin('fetch', args, bytes)).catch(fail);
}

/** Sends the request by an operation that takes and gives what `fetch` does. */
export async function sendThrough(
  request: Request,
  start: (args: Readonly<Record<string, unknown>>, bytes: Uint8Array | undefined) => Operation,
): Promise<Response> {
  const { url, method, redirect, signal } = request;
  signal?.throwIfAborted();
  const headers: HeaderPairs = [...request.headers];
  const operation = start({ url, method, redirect, headers }, peek(request));
  return toResponse(await (signal === null ? operation.outcome : unlessAborted(operation, signal)));
}

function fail(thrown: unknown): never {
  const isOurs = thrown instanceof Error && 'code' in thrown && !(thrown instanceof DOMException);
  if (!isOurs) throw thrown;
  throw new TypeError('fetch failed', { cause: thrown });
}

function toResponse({ result, bytes }: OperationResult): Response {
  const status = Number(result['status']);
  const response = new Response(bytes, {
    status: status >= 200 && status <= 599 ? status : 502,
    statusText: String(result['statusText']),
    headers: result['headers'] as HeaderPairs,
  });
  return Object.assign(response, {
    url: String(result['url']),
    redirected: result['redirected'] === true,
    type: 'basic',
  });
}
