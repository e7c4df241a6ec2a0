import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { newId } from '../../../core/id.ts';
import { rabbitContainer, startContainer } from './containers.ts';
import { freePort, untilListening } from './port.ts';
import { NoServer, startOrSkip } from './provider.ts';
import { serverFolder, startServerProcess, type ServerProcess } from './server-process.ts';

const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const CTL = '/usr/lib/rabbitmq/bin/rabbitmqctl';
const START_TIMEOUT_MS = 90_000;
/** One scheduler that does not spin: the tests share the cores with it. 9.3 s → 4.7 s to start on two busy ones. */
const TEST_FLAGS = '+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none';

const run = promisify(execFile);

/** A RabbitMQ of its own on a free port of 127.0.0.1, with its data in a temporary folder. */
export interface RabbitServer {
  /** `amqp://guest:guest@127.0.0.1:<port>/<vhost>`; the default vhost is `/`. */
  url(vhost?: string): string;
  readonly port: number;
  /** Shuts it down in good order; `start` brings it back on the same port and data. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** SIGKILL: what was not on disk is gone. */
  kill9(): Promise<void>;
  /** SIGSTOP: connections stay, nothing answers. */
  pause(): void;
  resume(): void;
  /** Runs rabbitmqctl against it; what it printed. */
  ctl(...args: string[]): Promise<string>;
  /** Adds a vhost that `guest` may use. */
  addVhost(name: string): Promise<void>;
  /** Ends it and removes its data. Idempotent. */
  close(): Promise<void>;
}

/**
 * One RabbitMQ for all suites of this mocha process, a vhost for each caller. Call it inside a `describe`; the URL is
 * there from the first `before` on. `FUNCATRON_TEST_AMQP_URL` names a running one (its vhost is then shared), else
 * the installed one is started, else a container; else the suite is skipped, or fails with `CI=true`.
 */
export function useRabbit(): { url(): string } {
  let url: string | undefined;
  before('a RabbitMQ vhost', async function () {
    this.timeout(START_TIMEOUT_MS + 10_000);
    url = await startOrSkip(this, sharedVhost);
  });
  return {
    url() {
      if (url === undefined) throw new Error('useRabbit: the URL is not known before the hooks ran');
      return url;
    },
  };
}

/** A RabbitMQ of its own for one `describe`, to be stopped, killed and paused at will; closed after it. */
export function usePrivateRabbit(): { server(): RabbitServer } {
  let server: RabbitServer | undefined;
  before('a RabbitMQ of its own', async function () {
    this.timeout(START_TIMEOUT_MS + 10_000);
    server = await startOrSkip(this, () => startRabbit());
  });
  after('ends it', async function () {
    this.timeout(30_000);
    await server?.close();
  });
  return {
    server() {
      if (server === undefined) throw new Error('usePrivateRabbit: the server is not there before the hooks ran');
      return server;
    },
  };
}

let shared: Promise<RabbitServer> | undefined;
let sharedContainer: Promise<string | undefined> | undefined;

async function sharedVhost(): Promise<string> {
  const given = process.env['FUNCATRON_TEST_AMQP_URL'];
  if (given !== undefined && given !== '') return given;
  if (isInstalled()) {
    shared ??= startRabbit();
    const server = await shared;
    const vhost = `test-${newId()}`;
    await server.addVhost(vhost);
    return server.url(vhost);
  }
  sharedContainer ??= startContainer(rabbitContainer);
  const address = await sharedContainer;
  if (address === undefined) throw noServer();
  return `amqp://guest:guest@${address}`;
}

function rootFolder(): string | undefined {
  const root = process.env['FUNCATRON_TEST_RABBIT_ROOT'];
  return root === undefined || root === '' ? undefined : root;
}

function isInstalled(): boolean {
  return existsSync(join(rootFolder() ?? '/', SERVER));
}

function noServer(): NoServer {
  return new NoServer(
    'RabbitMQ: FUNCATRON_TEST_AMQP_URL is not set, rabbitmq-server is not installed (apt-get install rabbitmq-server), no container engine answers',
  );
}

/**
 * Starts a RabbitMQ of its own from the installed binaries, or from another root folder named by
 * `FUNCATRON_TEST_RABBIT_ROOT`. About 3 s on two idle cores.
 * @param flags Erlang's, when not those of a server that shares two cores with tests; '' = as RabbitMQ is shipped
 * @throws NoServer when it is not installed
 */
export async function startRabbit(flags = TEST_FLAGS): Promise<RabbitServer> {
  if (!isInstalled()) throw noServer();
  const root = rootFolder();
  const [port, distPort, epmdPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const folder = serverFolder('rabbitmq', root);
  const env = settings(folder, port, distPort, epmdPort, flags);
  let server: ServerProcess | undefined;

  async function start(): Promise<void> {
    const started = startServerProcess({ command: SERVER, args: [], env, root, forks: true });
    server = started;
    await untilListening(port, () => started.died(), START_TIMEOUT_MS);
  }
  async function ctl(...args: string[]): Promise<string> {
    const [command = '', ...rest] =
      root === undefined
        ? [CTL, ...args]
        : ['chroot', root, 'env', '-i', ...Object.entries(env).map(([key, value]) => `${key}=${value}`), CTL, ...args];
    const { stdout } = await run(command, rest, { env: { ...env } });
    return stdout;
  }
  await start();
  return {
    port,
    url: (vhost) => `amqp://guest:guest@127.0.0.1:${port}${vhost === undefined ? '' : `/${vhost}`}`,
    start,
    stop: async () => await server?.end('SIGTERM', 20_000),
    kill9: async () => await server?.end('SIGKILL', 0),
    pause: () => server?.signal('SIGSTOP'),
    resume: () => server?.signal('SIGCONT'),
    ctl,
    async addVhost(name) {
      // One call into the node instead of two runs of rabbitmqctl, half a second each.
      await ctl(
        'eval',
        `rabbit_vhost:add(<<"${name}">>, <<"test">>), rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"${name}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>).`,
      );
    },
    async close() {
      server?.signal('SIGCONT');
      await server?.end('SIGKILL', 0);
      folder.remove();
    },
  };
}

function settings(
  folder: { path: string; inside: string },
  port: number,
  distPort: number,
  epmdPort: number,
  flags: string,
): Record<string, string> {
  mkdirSync(join(folder.path, 'home'));
  writeFileSync(join(folder.path, 'enabled_plugins'), '[].\n');
  writeFileSync(
    join(folder.path, 'rabbitmq.conf'),
    [
      `listeners.tcp.1 = 127.0.0.1:${port}`,
      'log.console = true',
      'log.console.level = warning',
      'log.file = false',
      '',
    ].join('\n'),
  );
  const inside = (name: string): string => join(folder.inside, name);
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LANG: 'C.UTF-8',
    HOME: inside('home'), // the Erlang cookie is made here
    RABBITMQ_NODENAME: `t${port}@localhost`,
    RABBITMQ_DIST_PORT: String(distPort),
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_MNESIA_BASE: inside('data'),
    RABBITMQ_LOG_BASE: inside('log'),
    RABBITMQ_CONFIG_FILE: inside('rabbitmq.conf'),
    RABBITMQ_ENABLED_PLUGINS_FILE: inside('enabled_plugins'),
    RABBITMQ_FEATURE_FLAGS_FILE: inside('feature_flags'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: flags,
    RABBITMQ_CTL_ERL_ARGS: '+S 1:1 +sbwt none',
  };
}
