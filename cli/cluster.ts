import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../core/config.ts';
import { FuncatronError } from '../core/errors.ts';
import { tuneHeap } from '../core/heap.ts';
import { type Closable, ServiceStack } from '../core/lifecycle.ts';
import { createLog, type Log, type LogLevel } from '../core/log.ts';

export type Role = 'frontend' | 'tron' | 'runner';

/** A cluster that runs in this process. */
export interface Cluster extends Closable {
  /** Where bundles answer: `http://127.0.0.1:8080`. */
  readonly httpUrl: string;
  /** Where the management API is, without `/v1`. */
  readonly tronUrl: string;
}

/** A single role that runs in this process. */
export interface OpenRole extends Closable {
  /** Where it listens; absent for a runner. */
  readonly url?: string;
}

/**
 * Every role in one process. `close` drains: the frontend stops taking calls and ends the ones it has, then the
 * runner, then tron, then broker and store go.
 * @throws INVALID_CONFIG when a port is taken; STORE_DOWN when the embedded store cannot be opened
 */
export async function openCluster(config: Config): Promise<Cluster> {
  const stack = new ServiceStack(config.drainMs + 10_000);
  try {
    const [{ openTron }, { openRunner }, { openFrontend }, base] = await Promise.all([
      import('../tron/main.ts'),
      import('../runner/main.ts'),
      import('../frontend/main.ts'),
      openBase(config, 'up', stack),
    ]);
    // One admin port cannot serve three roles: the frontend has the given one.
    const behind = { ...base, config: { ...config, adminPort: 0 } };
    const tron = stack.push('tron', await openTron({ ...behind, log: logOf(config, 'tron') }));
    stack.push('runner', await openRunner({ ...behind, log: logOf(config, 'runner') }));
    const frontend = stack.push('frontend', await openFrontend({ ...base, log: logOf(config, 'frontend') }));
    await writeTronUrl(config.dataDir, tron.url);
    return { httpUrl: frontend.url, tronUrl: tron.url, close: () => stack.close() };
  } catch (error) {
    await stack.close();
    throw error;
  }
}

/**
 * One role alone, on a broker and a store it shares with the others.
 * @throws INVALID_CONFIG when the broker or the store is the embedded one, which nobody else could reach
 */
export async function openRole(role: Role, config: Config): Promise<OpenRole> {
  refuseEmbedded(role, config);
  const stack = new ServiceStack(config.drainMs + 10_000);
  try {
    const base = await openBase(config, role, stack);
    const close = (): Promise<void> => stack.close();
    if (role === 'runner') {
      const { openRunner } = await import('../runner/main.ts');
      stack.push(role, await openRunner(base));
      return { close };
    }
    if (role === 'frontend') {
      const { openFrontend } = await import('../frontend/main.ts');
      return { url: stack.push(role, await openFrontend(base)).url, close };
    }
    const { openTron } = await import('../tron/main.ts');
    const { url } = stack.push(role, await openTron(base));
    await writeTronUrl(config.dataDir, url);
    return { url, close };
  } catch (error) {
    await stack.close();
    throw error;
  }
}

/** The management URL that a tron of this data folder wrote at its last start. */
export async function readTronUrl(dataDir: string): Promise<string | undefined> {
  try {
    const { url } = JSON.parse(await readFile(tronFile(dataDir), 'utf8')) as { url?: unknown };
    return typeof url === 'string' ? url : undefined;
  } catch {
    // No tron was ever started here; the caller has a default.
    return undefined;
  }
}

async function openBase(config: Config, role: string, stack: ServiceStack) {
  tuneHeap();
  const log = logOf(config, role);
  const [{ openStore }, { openBroker }] = await Promise.all([
    import('../core/store/open.ts'),
    import('../core/broker/open.ts'),
  ]);
  const { dataDir, storeUrl, brokerUrl } = config;
  const store = stack.push('store', await openStore(storeUrl, { dataDir, log, role }));
  const connectionName = `funcatron ${role} on ${hostname()}`;
  const broker = stack.push('broker', await openBroker(brokerUrl, { dataDir, log, connectionName }));
  return { config, store, broker, log };
}

function logOf(config: Config, role: string): Log {
  // The table of settings has checked that it is a level.
  return createLog({ level: config.logLevel as LogLevel | 'silent', role });
}

function refuseEmbedded(role: Role, config: Config): void {
  const embedded = [
    ...(config.brokerUrl.startsWith('memory:') ? ['--broker memory:'] : []),
    ...(config.storeUrl.startsWith('sqlite:') ? ['--store sqlite:'] : []),
  ];
  if (embedded.length === 0) return;
  throw new FuncatronError('INVALID_CONFIG', `cannot start a ${role} of its own with ${embedded.join(' and ')}`, {
    data: {
      hint:
        'name servers the other roles can reach: --broker amqp://host:5672 --store redis://host:6379; ' +
        'or run every role in one process: `funcatron up`',
    },
  });
}

async function writeTronUrl(dataDir: string, url: string): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const temporary = `${tronFile(dataDir)}.${process.pid}`;
  await writeFile(temporary, `${JSON.stringify({ url })}\n`, { mode: 0o600 });
  await rename(temporary, tronFile(dataDir));
}

function tronFile(dataDir: string): string {
  return join(dataDir, 'tron.json');
}
