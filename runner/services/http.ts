import { ERRORS, FuncatronError } from '../../core/errors.ts';
import type { GuestOperation } from '../isolate/isolate.ts';
import type { FetchPolicy } from './address-policy.ts';
import { createFetcher } from './fetch.ts';
import { deadlineOf, runMsOf, type Service, unreachable } from './service.ts';

export interface HttpOptions {
  readonly baseUrl: URL;
  /** Sent with every request, instead of what the func says under the same name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly policy: FetchPolicy;
  /** Private hosts that may be reached, where the policy allows them. */
  readonly wanted: readonly string[];
}

/**
 * `context.services.<name>` of type http: requests below a base URL, with credentials the func never sees.
 *
 * ```
 * http.fetch {url: path, method, headers, redirect, deadline?}, bytes: the body → as fetch
 * ```
 * Redirects are handed to the func, and not followed: the credentials are for this origin.
 */
export function createHttp(name: string, { baseUrl, headers, policy, wanted }: HttpOptions): Service {
  const fetcher = createFetcher(policy, wanted);
  const own = new Set(Object.keys(headers).map((header) => header.toLowerCase()));

  function headersOf(given: unknown): readonly (readonly [string, string])[] {
    const pairs = Array.isArray(given) ? (given as unknown[]) : [];
    const kept = pairs.filter((pair): pair is [string, string] => isPair(pair) && !own.has(pair[0].toLowerCase()));
    return [...kept, ...Object.entries(headers)];
  }

  return {
    vends: false,
    async run(request, _scope, signal) {
      if (request.name !== 'http.fetch') {
        throw new FuncatronError('INVALID_REQUEST', `service ${name} cannot do ${request.name}`);
      }
      const { args, bytes } = request;
      const url = urlBelow(name, baseUrl, args['url']);
      const timeoutMs = runMsOf(deadlineOf(request));
      const sent: GuestOperation = {
        name: 'fetch',
        args: {
          url: url.href,
          method: args['method'],
          headers: headersOf(args['headers']),
          redirect: 'manual',
          timeoutMs,
        },
        bytes,
      };
      try {
        const { result, bytes: body } = await fetcher.run(sent, signal);
        return { result: { ...result, url: args['url'] }, ...(body === undefined ? {} : { bytes: body }) };
      } catch (error) {
        // Not its words: they name the URL, which may be a secret.
        if (!(error instanceof FuncatronError)) throw unreachable(name, error);
        throw new FuncatronError(error.code, `service ${name}: ${ERRORS[error.code].meaning}`);
      }
    },
    close: () => fetcher.close(),
  };
}

function isPair(pair: unknown): pair is [string, string] {
  return Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'string';
}

/** A path of the guest's, below the base URL: no other origin, and no way up. */
function urlBelow(name: string, base: URL, path: unknown): URL {
  const folder = base.pathname.endsWith('/') ? base.pathname : `${base.pathname}/`;
  const text = typeof path === 'string' ? path.replace(/^\//, '') : '';
  const url = URL.parse(`./${text}`, new URL(folder, base));
  // An encoded slash or dot may be a way up to the server behind it.
  const isBelow = url?.origin === base.origin && url.pathname.startsWith(folder) && !/%2e|%2f|%5c/i.test(url.pathname);
  if (url !== null && isBelow) return url;
  throw new FuncatronError(
    'INVALID_REQUEST',
    `service ${name}: ${String(path).slice(0, 200)} is not a path below its base URL`,
  );
}
