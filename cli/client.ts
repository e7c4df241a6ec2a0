import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../core/config.ts';
import { FuncatronError, isErrorCode, type ErrorData } from '../core/errors.ts';
import { readTronUrl } from './cluster.ts';

/** The management API, as the command line uses it. Every method throws what tron answered, or TRON_DOWN. */
export interface TronClient {
  readonly url: string;
  /** The JSON under `/v1<path>`. */
  get<T>(path: string): Promise<T>;
  /** The JSON that a frontend of this cluster has for who holds the token. */
  ask<T>(url: string): Promise<T>;
  /** Sends a JSON value, or bytes as gzip; gives the JSON answer (`undefined` for 204). */
  send<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T>;
  /** Sends as it is told and gives the whole answer, whatever its status. */
  raw(method: string, path: string, request: RawRequest): Promise<Response>;
  /** The data of server-sent events, until the signal aborts or tron ends them. */
  events(path: string, signal: AbortSignal): AsyncGenerator<string>;
}

export interface RawRequest {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
  readonly signal?: AbortSignal;
}

/** A frontend that is asked whom it reaches takes 2 s to say that it does not. */
const ASK_MS = 5_000;

/** Finds tron (`--tron-url`, else what the data folder says, else the default port) and the token (`--token`, else the data folder's). */
export async function openClient(
  config: Pick<Config, 'tronUrl' | 'tronPort' | 'token' | 'dataDir'>,
): Promise<TronClient> {
  const { tronUrl, tronPort, token, dataDir } = config;
  const url = tronUrl || ((await readTronUrl(dataDir)) ?? `http://127.0.0.1:${tronPort}`);
  return createClient(url.replace(/\/+$/, ''), token || (await readToken(dataDir)));
}

/** Where a tron keeps its token. */
export function tokenFile(dataDir: string): string {
  return join(dataDir, 'token');
}

async function readToken(dataDir: string): Promise<string> {
  try {
    return (await readFile(tokenFile(dataDir), 'utf8')).trim();
  } catch {
    // Tron will say that the token is missing, and the hint where to get one.
    return '';
  }
}

function createClient(url: string, token: string): TronClient {
  const authorization: Readonly<Record<string, string>> = token === '' ? {} : { authorization: `Bearer ${token}` };

  async function raw(method: string, path: string, request: RawRequest = {}): Promise<Response> {
    try {
      return await fetch(`${url}/v1${path}`, {
        method,
        headers: { ...request.headers, ...authorization },
        body: request.body === undefined ? null : Buffer.from(request.body),
        signal: request.signal ?? null,
      });
    } catch (cause) {
      throw unreachable(url, cause);
    }
  }

  async function json<T>(response: Response): Promise<T> {
    if (!response.ok) throw await toError(response, url);
    return (response.status === 204 ? undefined : await response.json()) as T;
  }

  return {
    url,
    raw,
    get: async (path) => json(await raw('GET', path)),
    async ask(asked) {
      const response = await fetch(asked, { headers: authorization, signal: AbortSignal.timeout(ASK_MS) });
      return await json(response);
    },
    send: async (method, path, body) => json(await raw(method, path, encode(body))),
    async *events(path, signal) {
      try {
        const response = await raw('GET', path, { signal });
        if (!response.ok) throw await toError(response, url);
        if (response.body !== null) yield* readEvents(response.body);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    },
  };
}

function encode(body: unknown): RawRequest {
  if (body === undefined) return {};
  if (body instanceof Uint8Array) return { headers: { 'content-type': 'application/gzip' }, body };
  return { headers: { 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify(body)) };
}

/** The error of an answer that is none of 2xx. */
export async function toError(response: Response, url: string): Promise<FuncatronError> {
  const text = await response.text();
  try {
    const { code, detail, type: _type, title: _title, status: _status, ...data } = JSON.parse(text) as ErrorData;
    if (isErrorCode(code)) return new FuncatronError(code, typeof detail === 'string' ? detail : code, { data });
  } catch {
    // Not from tron: a proxy, or another program on this port.
  }
  return new FuncatronError('TRON_DOWN', `${url} answered ${response.status}, but not as tron does`, {
    data: { hint: 'check --tron-url: another program or a proxy answers there' },
  });
}

function unreachable(url: string, cause: unknown): FuncatronError {
  const reason = cause instanceof Error && cause.cause instanceof Error ? `: ${cause.cause.message}` : '';
  return new FuncatronError('TRON_DOWN', `cannot reach the management API at ${url}${reason}`, {
    cause,
    data: { hint: 'start a cluster with `funcatron up`, or say where one is: --tron-url http://host:8081' },
  });
}

/** One line of `data` an event, which is how tron writes them. WHATWG HTML §9.2. */
async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trim();
  }
}
