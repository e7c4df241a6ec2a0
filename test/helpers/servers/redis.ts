import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { redisContainer, startContainer } from './containers.ts';
import { freePort, untilListening } from './port.ts';
import { NoServer, startOrSkip } from './provider.ts';
import { serverFolder, startServerProcess, type ServerProcess } from './server-process.ts';

const SERVER = '/usr/bin/redis-server';
const START_TIMEOUT_MS = 20_000;
const DATABASES = 1_000;

/** A Redis of its own on a free port of 127.0.0.1, appending to a file in a temporary folder. */
export interface RedisServer {
  /** `redis://127.0.0.1:<port>/<database>`; the default database is 0. */
  url(database?: number): string;
  readonly port: number;
  /** Shuts it down in good order; `start` brings it back on the same port and data. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** SIGKILL: at most the last second of writes is gone. */
  kill9(): Promise<void>;
  /** SIGSTOP: connections stay, nothing answers. */
  pause(): void;
  resume(): void;
  /** Ends it and removes its data. Idempotent. */
  close(): Promise<void>;
}

/**
 * One Redis for all suites of this mocha process, a database for each caller. Call it inside a `describe`; the URL is
 * there from the first `before` on. `FUNCATRON_TEST_REDIS_URL` names a running one (its database is then shared: use
 * keys of your own), else the installed one is started, else a container; else the suite is skipped, or fails with `CI=true`.
 */
export function useRedis(): { url(): string } {
  let url: string | undefined;
  before('a Redis database', async function () {
    this.timeout(START_TIMEOUT_MS + 10_000);
    url = await startOrSkip(this, sharedDatabase);
  });
  return {
    url() {
      if (url === undefined) throw new Error('useRedis: the URL is not known before the hooks ran');
      return url;
    },
  };
}

/** A Redis of its own for one `describe`, to be stopped, killed and paused at will; closed after it. */
export function usePrivateRedis(): { server(): RedisServer } {
  let server: RedisServer | undefined;
  before('a Redis of its own', async function () {
    this.timeout(START_TIMEOUT_MS + 10_000);
    server = await startOrSkip(this, startRedis);
  });
  after('ends it', async () => await server?.close());
  return {
    server() {
      if (server === undefined) throw new Error('usePrivateRedis: the server is not there before the hooks ran');
      return server;
    },
  };
}

let shared: Promise<RedisServer> | undefined;
let sharedContainer: Promise<string | undefined> | undefined;
let databases = 0;

async function sharedDatabase(): Promise<string> {
  const given = process.env['FUNCATRON_TEST_REDIS_URL'];
  if (given !== undefined && given !== '') return given;
  if (isInstalled()) {
    shared ??= startRedis();
    return (await shared).url(databases++);
  }
  sharedContainer ??= startContainer(redisContainer);
  const address = await sharedContainer;
  if (address === undefined) throw noServer();
  return `redis://${address}/${databases++}`;
}

function rootFolder(): string | undefined {
  const root = process.env['FUNCATRON_TEST_REDIS_ROOT'];
  return root === undefined || root === '' ? undefined : root;
}

function isInstalled(): boolean {
  return existsSync(join(rootFolder() ?? '/', SERVER));
}

function noServer(): NoServer {
  return new NoServer(
    'Redis: FUNCATRON_TEST_REDIS_URL is not set, redis-server is not installed (apt-get install redis-server), no container engine answers',
  );
}

/**
 * Starts a Redis of its own from the installed binary, or from another root folder named by
 * `FUNCATRON_TEST_REDIS_ROOT`. About 50 ms.
 * @throws NoServer when it is not installed
 */
export async function startRedis(): Promise<RedisServer> {
  if (!isInstalled()) throw noServer();
  const root = rootFolder();
  const port = await freePort();
  const folder = serverFolder('redis', root);
  const args = [
    ['--port', String(port)],
    ['--bind', '127.0.0.1'],
    ['--dir', folder.inside],
    ['--appendonly', 'yes'],
    ['--save', ''],
    ['--databases', String(DATABASES)],
  ].flat();
  const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };
  let server: ServerProcess | undefined;

  async function start(): Promise<void> {
    const started = startServerProcess({ command: SERVER, args, env, root, forks: false });
    server = started;
    await untilListening(port, () => started.died(), START_TIMEOUT_MS);
  }
  await start();
  return {
    port,
    url: (database = 0) => `redis://127.0.0.1:${port}/${database}`,
    start,
    stop: async () => await server?.end('SIGTERM', 5_000),
    kill9: async () => await server?.end('SIGKILL', 0),
    pause: () => server?.signal('SIGSTOP'),
    resume: () => server?.signal('SIGCONT'),
    async close() {
      await server?.end('SIGKILL', 0);
      folder.remove();
    },
  };
}
