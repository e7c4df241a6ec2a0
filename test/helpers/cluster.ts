import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeFlags } from './node-flags.ts';
import { freePort } from './servers/port.ts';
import { startRabbit, type RabbitServer } from './servers/rabbitmq.ts';
import { startRedis, type RedisServer } from './servers/redis.ts';
import { until } from './until.ts';

const root = join(import.meta.dirname, '../..');
const TOKEN = 'token-of-the-test-cluster';

/** One role in a process of its own. */
export interface RoleProcess {
  readonly name: string;
  readonly pid: number;
  /** `http://127.0.0.1:<port>` of a frontend's API or a Tron's management API. */
  readonly url: string;
  readonly adminUrl: string;
  /** The last lines it wrote. */
  output(): string;
  signal(name: NodeJS.Signals): void;
  /** Signals it and settles with its exit code, or the signal that ended it. */
  end(name: NodeJS.Signals): Promise<number | NodeJS.Signals>;
  ready(): Promise<void>;
}

/** A request to the management API; the token is added. */
interface TronRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: NonNullable<RequestInit['body']>;
}

/** The compose file's topology as processes, over a RabbitMQ and a Redis of its own. */
export interface TestCluster {
  readonly rabbit: RabbitServer;
  readonly redis: RedisServer;
  /** Running roles by name: `tron-1`, `frontend-1`, `runner-2` … */
  readonly roles: ReadonlyMap<string, RoleProcess>;
  role(name: string): RoleProcess;
  /** Starts a role (again); the same name keeps its data folder. Settles when it is ready, or at once with `wait: false`. */
  start(name: string, options?: { env?: Readonly<Record<string, string>>; wait?: boolean }): Promise<RoleProcess>;
  /** Asks the management API of the first Tron. */
  tron(path: string, init?: TronRequest): Promise<Response>;
  /** Uploads an archive and waits until it is live; throws with the problem when it is refused. */
  deploy(archive: Uint8Array): Promise<{ bundle: string; revision: string }>;
  close(): Promise<void>;
}

export interface TestClusterOptions {
  /** `cli/main.ts`, or compiled: `dist/cli/main.js`. */
  readonly entry?: string;
  readonly trons?: number;
  readonly frontends?: number;
  readonly runners?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** See `startRabbit`. */
  readonly rabbitFlags?: string;
  /** What the roles are told the broker is, when it is not the RabbitMQ itself (a proxy before it). */
  readonly brokerUrl?: (rabbit: RabbitServer) => string;
}

/** Starts the servers and the roles, and waits until every role is ready. */
export async function openTestCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const [rabbit, redis] = await Promise.all([startRabbit(options.rabbitFlags), startRedis()]);
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-cluster-'));
  const roles = new Map<string, RoleProcess>();
  const ports = new Map<string, { port: number; adminPort: number }>();

  const cluster: TestCluster = {
    rabbit,
    redis,
    roles,
    role(name) {
      const role = roles.get(name);
      if (role === undefined) throw new Error(`no role ${name} is running`);
      return role;
    },
    async start(name, { env = {}, wait = true } = {}) {
      const { port, adminPort } = ports.get(name) ?? { port: await freePort(), adminPort: await freePort() };
      ports.set(name, { port, adminPort });
      const role = startRole(name, port, adminPort, options.entry ?? 'cli/main.ts', {
        FUNCATRON_BROKER_URL: options.brokerUrl?.(rabbit) ?? rabbit.url(),
        FUNCATRON_STORE_URL: redis.url(),
        FUNCATRON_DATA: join(folder, name),
        FUNCATRON_TOKEN: TOKEN,
        FUNCATRON_LOG_LEVEL: 'warn',
        ...options.env,
        ...env,
      });
      roles.set(name, role);
      if (wait) await role.ready();
      return role;
    },
    tron(path, init = {}) {
      return fetch(`${cluster.role('tron-1').url}/v1${path}`, {
        ...init,
        headers: { authorization: `Bearer ${TOKEN}`, ...init.headers },
      });
    },
    async deploy(archive) {
      const response = await cluster.tron('/bundles', {
        method: 'POST',
        headers: { 'content-type': 'application/gzip' },
        body: new Uint8Array(archive),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`deploy answered ${response.status}: ${text}`);
      return JSON.parse(text) as { bundle: string; revision: string };
    },
    async close() {
      await Promise.all([...roles.values()].map((role) => role.end('SIGKILL')));
      await Promise.all([rabbit.close(), redis.close()]);
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };

  const names = (verb: string, count: number): string[] =>
    Array.from({ length: count }, (_, index) => `${verb}-${index + 1}`);
  const all = [
    ...names('tron', options.trons ?? 1),
    ...names('frontend', options.frontends ?? 1),
    ...names('runner', options.runners ?? 1),
  ];
  try {
    await Promise.all(all.map((name) => cluster.start(name)));
  } catch (error) {
    await cluster.close();
    throw error;
  }
  return cluster;
}

function startRole(
  name: string,
  port: number,
  adminPort: number,
  entry: string,
  env: Readonly<Record<string, string>>,
): RoleProcess {
  const role = name.split('-')[0] ?? '';
  const node = [process.execPath, ...nodeFlags(role), join(root, entry), role];
  // A role must not outlive the tests, even when they are killed.
  const [command = '', ...args] = existsSync('/usr/bin/setpriv') ? ['setpriv', '--pdeathsig', 'KILL', ...node] : node;
  const child = spawn(command, args, {
    cwd: root,
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      FUNCATRON_HTTP_PORT: String(port),
      FUNCATRON_TRON_PORT: String(port),
      FUNCATRON_ADMIN_PORT: String(adminPort),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output = (output + text).slice(-20_000)));
  }
  let ended: number | NodeJS.Signals | undefined;
  const exit = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('close', (code, signal) => {
      ended = code ?? signal ?? 0;
      resolve(ended);
    });
  });
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  return {
    name,
    pid: child.pid ?? 0,
    url: `http://127.0.0.1:${port}`,
    adminUrl,
    output: () => output,
    signal: (signal) => void child.kill(signal),
    async end(signal) {
      if (ended === undefined) child.kill(signal);
      return await exit;
    },
    ready: () =>
      until(
        `${name} is ready`,
        async () => {
          if (ended !== undefined) throw new Error(`${name} ended with ${ended}:\n${output}`);
          return await isReady(adminUrl);
        },
        30_000,
      ),
  };
}

async function isReady(adminUrl: string): Promise<boolean> {
  try {
    const response = await fetch(`${adminUrl}/readyz`);
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false; // not listening yet
  }
}
