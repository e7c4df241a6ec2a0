import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'pg';
import { until } from '../until.ts';
import { freePort, untilListening } from './port.ts';
import { NoServer, startOrSkip } from './provider.ts';
import { serverFolder, startServerProcess, type ServerProcess } from './server-process.ts';

/** Debian keeps each version in a folder of its own, off the path. */
const VERSIONS = '/usr/lib/postgresql';
const USER = 'postgres';
const START_TIMEOUT_MS = 30_000;

/** A PostgreSQL of its own on a free port of 127.0.0.1, in a temporary folder. */
export interface PostgresServer {
  readonly url: string;
  readonly port: number;
  /** Shuts it down at once, ending connections; `start` brings it back on the same port and data. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Ends it and removes its data. Idempotent. */
  close(): Promise<void>;
}

/**
 * A PostgreSQL for one `describe`: the installed one, started by nobody else; without it the suite is skipped, or fails
 * with `CI=true`.
 */
export function usePostgres(): { server(): PostgresServer } {
  let server: PostgresServer | undefined;
  before('a PostgreSQL of its own', async function () {
    this.timeout(START_TIMEOUT_MS + 30_000);
    server = await startOrSkip(this, startPostgres);
  });
  after('ends it', async () => await server?.close());
  return {
    server() {
      if (server === undefined) throw new Error('usePostgres: the server is not there before the hooks ran');
      return server;
    },
  };
}

/** The folder of the newest version's programs. */
function findPrograms(): string {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS).toSorted((a, b) => Number(b) - Number(a)) : [];
  const folder = versions
    .map((version) => join(VERSIONS, version, 'bin'))
    .find((bin) => existsSync(join(bin, 'initdb')));
  if (folder !== undefined) return folder;
  throw new NoServer('PostgreSQL: it is not installed (apt-get install postgresql)');
}

/** About 2 s. @throws NoServer when it is not installed */
export async function startPostgres(): Promise<PostgresServer> {
  const programs = findPrograms();
  const port = await freePort();
  const folder = serverFolder('postgres');
  // It refuses to run as root. A change of user forgets whose death ends it: that is said anew.
  const isRoot = process.getuid?.() === 0;
  const as = isRoot ? ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', '--pdeathsig=KILL'] : [];
  if (isRoot) chownSync(folder.path, idOf('-u'), idOf('-g'));
  const data = join(folder.path, 'data');
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8' };
  const init = [...as, join(programs, 'initdb'), '-D', data, '-U', USER, '--auth=trust', '--no-sync', '-E', 'UTF8'];
  execFileSync(init[0] ?? '', init.slice(1), { env, stdio: 'pipe', cwd: folder.path });
  const settings = [
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    'unix_socket_directories=',
    'fsync=off',
    'max_connections=50',
  ];
  const run = [...as, join(programs, 'postgres'), '-D', data, ...settings.flatMap((setting) => ['-c', setting])];
  const url = `postgres://${USER}@127.0.0.1:${port}/postgres`;
  let server: ServerProcess | undefined;

  async function start(): Promise<void> {
    const started = startServerProcess({ command: run[0] ?? '', args: run.slice(1), env, forks: true });
    server = started;
    await untilListening(port, () => started.died(), START_TIMEOUT_MS);
    await until('PostgreSQL takes connections', () => accepts(url), START_TIMEOUT_MS);
  }
  await start();
  return {
    port,
    url,
    start,
    stop: async () => await server?.end('SIGQUIT', 5_000),
    async close() {
      await server?.end('SIGKILL', 0);
      folder.remove();
    },
  };
}

/** It listens before it is ready. */
async function accepts(url: string): Promise<boolean> {
  const client = new Client(url);
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end();
  }
}

function idOf(which: '-u' | '-g'): number {
  return Number(spawnSync('id', [which, USER]).stdout.toString());
}
