import { get } from 'node:http';
import { DIRECT_HEADER, DIRECT_PATH } from '../core/wire/direct.ts';

/** As long as a transfer waits for a connection. */
const PROBE_MS = 2_000;

/** What is to be told of a place where a runner says it listens. */
export interface Reach {
  readonly reached: boolean;
  /** Why not: `ECONNREFUSED`, `no answer within 2000 ms`, `another server answers there`. */
  readonly why?: string;
}

/** Whether a runner's listener answers at this URL. Offers of calls are not touched. */
export function isReachable(url: string): Promise<Reach> {
  return new Promise((resolve) => {
    const fail = (why: string): void => resolve({ reached: false, why });
    if (!URL.canParse(url) || new URL(url).protocol !== 'http:') return fail('it is no http URL');
    const req = get(url.replace(/\/$/, '') + DIRECT_PATH, { agent: false, timeout: PROBE_MS }, (res) => {
      if (res.headers[DIRECT_HEADER] === undefined) fail('another server answers there');
      else resolve({ reached: true });
      res.destroy();
    });
    req.on('timeout', () => req.destroy(new Error(`no answer within ${PROBE_MS} ms`)));
    req.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
  });
}
