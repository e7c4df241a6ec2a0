import { join } from 'node:path';
import { packBundle } from '../core/bundle/pack.ts';
import { startRabbit } from '../test/helpers/servers/rabbitmq.ts';
import { startRedis } from '../test/helpers/servers/redis.ts';
import { freePort } from '../test/helpers/servers/port.ts';
import { answers, root, start, temporaryFolder, type Started } from './processes.ts';

/** A cluster of separate processes over a RabbitMQ and a Redis of its own, on compiled code. */
export interface Cluster {
  readonly brokerUrl: string;
  readonly frontendUrl: string;
  readonly tronUrl: string;
  /** Process ids by what they are, for CPU readings. */
  readonly pids: Readonly<Record<string, number>>;
  deploy(archive: Buffer): Promise<void>;
  close(): Promise<void>;
}

const TOKEN = 'bench-token';

/** Starts RabbitMQ, Redis, one Tron, one frontend and `runners` runners, and waits until all are ready. */
export async function openCluster(runners: number): Promise<Cluster> {
  const folder = await temporaryFolder();
  const rabbit = await startRabbit();
  const redis = await startRedis();
  const [httpPort, tronPort] = await Promise.all([freePort(), freePort()]);
  const started: Started[] = [];
  const pids: Record<string, number> = {};

  async function role(name: string, verb: string): Promise<void> {
    const adminPort = await freePort();
    const process_ = await start(
      process.execPath,
      [join(root, 'dist/cli/main.js'), verb],
      {
        NODE_ENV: 'production',
        FUNCATRON_DATA: join(folder.path, name),
        FUNCATRON_BROKER_URL: rabbit.url(),
        FUNCATRON_STORE_URL: redis.url(),
        FUNCATRON_TOKEN: TOKEN,
        FUNCATRON_HTTP_PORT: String(httpPort),
        FUNCATRON_TRON_PORT: String(tronPort),
        FUNCATRON_ADMIN_PORT: String(adminPort),
        FUNCATRON_LOG_LEVEL: 'warn',
      },
      () => ready(`http://127.0.0.1:${adminPort}/readyz`),
    );
    started.push(process_);
    pids[name] = process_.pid;
  }

  await role('tron', 'tron');
  await Promise.all([
    role('frontend', 'frontend'),
    ...Array.from({ length: runners }, (_, index) => role(`runner-${index + 1}`, 'runner')),
  ]);
  const tronUrl = `http://127.0.0.1:${tronPort}`;
  return {
    brokerUrl: rabbit.url(),
    frontendUrl: `http://127.0.0.1:${httpPort}`,
    tronUrl,
    pids,
    async deploy(archive) {
      const response = await fetch(`${tronUrl}/v1/bundles`, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/gzip' },
        body: new Uint8Array(archive),
      });
      if (!response.ok) throw new Error(`deploy answered ${response.status}: ${await response.text()}`);
      await response.arrayBuffer();
    },
    async close() {
      await Promise.all(started.map((each) => each.stop()));
      await Promise.all([rabbit.close(), redis.close()]);
      await folder.remove();
    },
  };
}

/** The packed bench bundle. */
export async function benchArchive(): Promise<Buffer> {
  return (await packBundle(join(import.meta.dirname, 'bundle'))).archive;
}

async function ready(url: string): Promise<boolean> {
  return await answers(url);
}
