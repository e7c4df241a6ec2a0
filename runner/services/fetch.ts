import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { FuncatronError } from '../../core/errors.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import { pinAddress, type FetchPolicy, type PinnedAddress } from './address-policy.ts';

const MAX_REDIRECTS = 5;
const MAX_CONCURRENT = 64;
const MAX_RESPONSE_BYTES = 8 * 1024 * 1024;
const MAX_TIMEOUT_MS = 30_000;

/** Headers that belong to one connection, or that this side sets itself. Source: RFC 9110 §7.6.1. */
const HOP_BY_HOP = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

type HeaderList = readonly (readonly [name: string, value: string])[];

interface Hop {
  readonly url: URL;
  readonly method: string;
  readonly headers: HeaderList;
  readonly body: Buffer;
}

/** What performs `fetch` for the bundles of one revision. */
export interface Fetcher extends Closable {
  /**
   * ```
   * {url, method?, headers?: [[name, value], …], redirect?: 'follow' | 'manual' | 'error', timeoutMs?} and the body as bytes
   *   → {url, status, statusText, redirected, headers: [[name, value], …]} and the body as bytes
   * ```
   * @throws FORBIDDEN, INVALID_REQUEST, RESPONSE_TOO_LARGE, SERVICE_BUSY, TIMEOUT; an Error with Node's code when the
   *   host cannot be reached
   */
  run(request: GuestOperation, signal: AbortSignal): Promise<GuestResult>;
}

/**
 * A fetcher with connections of its own: what one bundle may reach, another must not find open in a shared pool.
 * @param wanted private hosts the manifest names
 */
export function createFetcher(policy: FetchPolicy, wanted: readonly string[]): Fetcher {
  const options = { keepAlive: true, maxSockets: MAX_CONCURRENT, timeout: MAX_TIMEOUT_MS };
  const http = new HttpAgent(options);
  const https = new HttpsAgent(options);
  let running = 0;

  async function follow(first: Hop, redirect: string, signal: AbortSignal): Promise<GuestResult> {
    let hop = first;
    for (let redirects = 0; ; redirects++) {
      const pinned = await unlessAborted(pinAddress(hop.url, policy, wanted), signal);
      const response = await send(hop, pinned, hop.url.protocol === 'https:' ? https : http, signal);
      const next = redirect === 'manual' ? undefined : redirectOf(hop, response);
      if (next === undefined) {
        const bytes = hop.method === 'HEAD' ? Buffer.alloc(0) : await readAll(response);
        return { result: { ...describe(response), url: hop.url.href, redirected: redirects > 0 }, bytes };
      }
      response.destroy();
      if (redirect === 'error') throw refused(`${hop.url.href} redirects`);
      if (redirects === MAX_REDIRECTS) throw refused(`${first.url.href} redirects more than ${MAX_REDIRECTS} times`);
      hop = next;
    }
  }

  return {
    async run(request, signal) {
      if (running >= MAX_CONCURRENT) {
        throw new FuncatronError('SERVICE_BUSY', `fetch: ${MAX_CONCURRENT} requests of this bundle are under way`);
      }
      running++;
      const { args } = request;
      const asked = typeof args['timeoutMs'] === 'number' ? args['timeoutMs'] : MAX_TIMEOUT_MS;
      const timeout = AbortSignal.timeout(Math.max(1, Math.min(MAX_TIMEOUT_MS, asked)));
      try {
        return await follow(hopOf(request), textOf(args['redirect'], 'follow'), AbortSignal.any([signal, timeout]));
      } catch (error) {
        if (timeout.aborted) throw new FuncatronError('TIMEOUT', `fetch of ${textOf(args['url'], '')} took too long`);
        throw error;
      } finally {
        running--;
      }
    },
    close() {
      http.destroy();
      https.destroy();
      return Promise.resolve();
    },
  };
}

/** Looking a name up cannot be stopped, so it is left alone. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    signal.throwIfAborted();
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function hopOf({ args, bytes }: GuestOperation): Hop {
  const url = URL.parse(textOf(args['url'], ''));
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw refused(`${textOf(args['url'], '')} is no http or https URL`);
  }
  return {
    url,
    method: textOf(args['method'], 'GET').toUpperCase(),
    headers: headersOf(args['headers']),
    body: bytes,
  };
}

function textOf(given: unknown, otherwise: string): string {
  return typeof given === 'string' ? given : otherwise;
}

function headersOf(given: unknown): HeaderList {
  const list = Array.isArray(given) ? (given as unknown[]) : [];
  const headers = list.filter(
    (pair): pair is [string, string] =>
      Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'string',
  );
  const named = headers
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.toLowerCase().split(','))
    .map((name) => name.trim());
  return headers.filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()) && !named.includes(name.toLowerCase()));
}

function send(
  hop: Hop,
  pinned: PinnedAddress,
  agent: HttpAgent | HttpsAgent,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const lookup: LookupFunction = (_host, options, callback) => {
    if (options.all === true) callback(null, [pinned]);
    else callback(null, pinned.address, pinned.family);
  };
  const options: RequestOptions = {
    method: hop.method,
    headers: outgoingHeaders(hop),
    agent,
    lookup,
    signal,
    // A header longer than this from a stranger is not worth its memory.
    maxHeaderSize: 64 * 1024,
  };
  return new Promise((resolve, reject) => {
    const request = (hop.url.protocol === 'https:' ? httpsRequest : httpRequest)(hop.url, options, resolve);
    request.on('error', (cause: NodeJS.ErrnoException) => {
      reject(
        Object.assign(new Error(`cannot fetch ${hop.url.href}: ${cause.message}`, { cause }), { code: cause.code }),
      );
    });
    request.end(hop.body.length > 0 ? hop.body : undefined);
  });
}

function outgoingHeaders(hop: Hop): Record<string, string[] | string> {
  // Bodies cross to the guest as they are, so none may come compressed unless the guest asks for it.
  const headers: Record<string, string[] | string> = { 'accept-encoding': 'identity', 'user-agent': 'funcatron' };
  const given = new Map<string, string[]>();
  for (const [name, value] of hop.headers)
    given.set(name.toLowerCase(), [...(given.get(name.toLowerCase()) ?? []), value]);
  for (const [name, values] of given) headers[name] = values.length === 1 ? (values[0] ?? '') : values;
  if (hop.body.length > 0) headers['content-length'] = String(hop.body.length);
  return headers;
}

/** The next hop, or `undefined` when the response is no redirect. Source: Fetch standard, "HTTP-redirect fetch". */
function redirectOf(hop: Hop, response: IncomingMessage): Hop | undefined {
  const { statusCode = 0, headers } = response;
  if (![301, 302, 303, 307, 308].includes(statusCode) || headers.location === undefined) return undefined;
  const url = URL.parse(headers.location, hop.url);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw refused(`${hop.url.href} redirects to ${headers.location}`);
  }
  const becomesGet =
    statusCode === 303 ? hop.method !== 'HEAD' : hop.method === 'POST' && (statusCode === 301 || statusCode === 302);
  const dropped = [
    ...(becomesGet ? ['content-type', 'content-encoding', 'content-language'] : []),
    ...(url.origin === hop.url.origin ? [] : ['authorization', 'cookie']),
  ];
  return {
    url,
    method: becomesGet ? 'GET' : hop.method,
    headers: hop.headers.filter(([name]) => !dropped.includes(name.toLowerCase())),
    body: becomesGet ? Buffer.alloc(0) : hop.body,
  };
}

async function readAll(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_RESPONSE_BYTES) {
      throw new FuncatronError('RESPONSE_TOO_LARGE', `fetch: the response is longer than ${MAX_RESPONSE_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

function describe(response: IncomingMessage): Readonly<Record<string, unknown>> {
  const headers: [string, string][] = [];
  const raw = response.rawHeaders;
  for (let at = 0; at + 1 < raw.length; at += 2) headers.push([raw[at] ?? '', raw[at + 1] ?? '']);
  return { status: response.statusCode ?? 0, statusText: response.statusMessage ?? '', headers };
}

function refused(message: string): FuncatronError {
  return new FuncatronError('INVALID_REQUEST', `fetch: ${message}`);
}
