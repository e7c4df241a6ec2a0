import { join } from 'node:path';
import { FuncatronError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Store } from './store.ts';

/**
 * The store a URL names: `sqlite:` (one file in the data folder, which is made when missing) or
 * `redis(s)://[user:password@]host:port[/db][?prefix=funcatron:]`.
 * @param options.role names the connection, so that `CLIENT LIST` says who it is
 * @throws INVALID_CONFIG for any other URL; STORE_DOWN when the file cannot be opened
 */
export async function openStore(url: string, options: { dataDir: string; log: Log; role: string }): Promise<Store> {
  const log = options.log.child({ part: 'store' });
  if (url === 'sqlite:') {
    const { openSqliteStore } = await import('./sqlite.ts');
    return openSqliteStore({ file: join(options.dataDir, 'store.sqlite'), log });
  }
  const parsed = URL.parse(url);
  if (parsed?.protocol === 'redis:' || parsed?.protocol === 'rediss:') {
    const { openRedisStore } = await import('./redis.ts');
    return openRedisStore({ url, log, connectionName: `funcatron-${options.role}` });
  }
  // The URL may hold a password: only its scheme is shown.
  throw new FuncatronError('INVALID_CONFIG', `no store has the scheme "${parsed?.protocol ?? url.split(':')[0]}"`, {
    data: { hint: 'use `sqlite:`, `redis://host:port` or `rediss://host:port`' },
  });
}
