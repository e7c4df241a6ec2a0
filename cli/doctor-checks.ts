import { createServer } from 'node:net';
import type { Broker } from '../core/broker/broker.ts';
import { openBroker } from '../core/broker/open.ts';
import { ClusterClock } from '../core/clock.ts';
import type { Config } from '../core/config.ts';
import { toFuncatronError } from '../core/errors.ts';
import { newId } from '../core/id.ts';
import { createLog, type Log } from '../core/log.ts';
import { openStore } from '../core/store/open.ts';
import type { Snapshot } from '../core/wire/control.ts';
import { listenerQueue, listenerTopology, stateExchange } from '../core/wire/topology.ts';
import { findWalls } from '../runner/isolate/launch.ts';
import type { Bundle } from './answers.ts';
import { openClient } from './client.ts';
import { checkDirectPath } from './doctor-direct.ts';
import { hintOf } from './failure.ts';

/** What one check found. */
export interface Finding {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'bad';
  readonly text: string;
  /** What to do, where something is to be done. */
  readonly fix?: string;
}

/** Longest wait for a broker that does not answer. */
const BROKER_MS = 5_000;
/** Two snapshots come in this time (`snapshotMs` is 5 s). */
const CLOCK_MS = 11_000;
/** Above this, deadlines visibly move. */
const OFFSET_MS = 100;

/** Everything, side by side; never throws: what cannot be checked is a finding. */
export async function checkAll(config: Config): Promise<readonly Finding[]> {
  const log = createLog({ level: 'silent', role: 'doctor' });
  const [isolate, ...remote] = await Promise.all([
    checkIsolate(),
    withBroker(config, log),
    checkStore(config, log),
    checkTron(config),
  ]);
  return [checkNode(), isolate, ...remote.flat()];
}

function checkNode(): Finding {
  const major = Number.parseInt(process.versions.node, 10);
  if (major >= 26) return { name: 'node', state: 'ok', text: process.version };
  return {
    name: 'node',
    state: 'warning',
    text: `${process.version}: isolates need Node 26 to keep funcs off the network`,
    fix: 'run `npm install` where funcatron lies (it brings Node 26), or install Node 26',
  };
}

async function checkIsolate(): Promise<Finding> {
  const { setpriv, prlimit } = await findWalls();
  const missing = [...(setpriv === undefined ? ['setpriv'] : []), ...(prlimit === undefined ? ['prlimit'] : [])];
  if (missing.length === 0) return { name: 'isolate', state: 'ok', text: 'setpriv and prlimit are there' };
  return {
    name: 'isolate',
    state: 'warning',
    text: `${missing.join(' and ')} not found: a worker may outlive its runner, or use more memory than it says`,
    fix: process.platform === 'linux' ? 'apt install util-linux' : 'run runners on Linux',
  };
}

async function withBroker(config: Config, log: Log): Promise<readonly Finding[]> {
  if (config.brokerUrl.startsWith('memory:')) {
    return [{ name: 'broker', state: 'ok', text: 'the embedded one (memory:), which `funcatron up` starts' }];
  }
  let broker: Broker | undefined;
  try {
    broker = await openBroker(config.brokerUrl, { log, connectionName: 'funcatron doctor', dataDir: config.dataDir });
    if (!(await broker.ready(AbortSignal.timeout(BROKER_MS)))) {
      return [
        bad(
          'broker',
          'no broker answers at the given URL',
          'check --broker, and that RabbitMQ runs: `rabbitmqctl status`',
        ),
      ];
    }
    return await Promise.all([checkBroker(broker), checkClock(broker)]);
  } catch (error) {
    return [failure('broker', error, 'check --broker: amqp://user:password@host:5672/vhost')];
  } finally {
    await broker?.close();
  }
}

/** Events need quorum queues, so one is made and deleted. */
async function checkBroker(broker: Broker): Promise<Finding> {
  const name = `funcatron.doctor.${newId()}`;
  try {
    await broker.declare({
      queues: [{ name, durable: true, arguments: { 'x-queue-type': 'quorum', 'x-expires': 60_000 } }],
    });
    await broker.deleteQueue(name);
    return { name: 'broker', state: 'ok', text: `${broker.server ?? 'RabbitMQ'} answers and takes quorum queues` };
  } catch (error) {
    return failure(
      'broker',
      error,
      'give this user the rights to configure, write and read: `rabbitmqctl set_permissions`',
    );
  }
}

async function checkClock(broker: Broker): Promise<Finding> {
  const id = newId();
  const clock = new ClusterClock();
  const { promise: heard, resolve } = Promise.withResolvers<true>();
  await broker.declare(listenerTopology(stateExchange, id, [''], 10));
  const queue = listenerQueue(stateExchange.name, id);
  await broker.consume(queue, {}, ({ body }) => {
    const sentAt = sentAtOf(body);
    if (sentAt === undefined) return;
    clock.observe(sentAt);
    resolve(true);
  });
  const isHeard = await Promise.race([heard, timeout(CLOCK_MS)]);
  await broker.deleteQueue(queue);
  if (!isHeard) {
    return {
      name: 'clock',
      state: 'warning',
      text: 'cannot be compared: no tron leads',
      fix: 'start one: `funcatron tron`',
    };
  }
  const offset = `${Math.round(clock.offsetMs)} ms from the leading tron's`;
  return Math.abs(clock.offsetMs) <= OFFSET_MS
    ? { name: 'clock', state: 'ok', text: offset }
    : { name: 'clock', state: 'warning', text: offset, fix: 'keep clocks together: `timedatectl set-ntp true`' };
}

function sentAtOf(body: Buffer): number | undefined {
  try {
    const { sentAt } = JSON.parse(body.toString()) as Partial<Snapshot>;
    return typeof sentAt === 'number' ? sentAt : undefined;
  } catch {
    // Not from a tron: another one will come.
    return undefined;
  }
}

async function checkStore(config: Config, log: Log): Promise<readonly Finding[]> {
  if (config.storeUrl.startsWith('sqlite:')) {
    return [{ name: 'store', state: 'ok', text: 'the embedded one (sqlite:), which `funcatron up` starts' }];
  }
  try {
    const store = await openStore(config.storeUrl, { dataDir: config.dataDir, log, role: 'doctor' });
    try {
      const key = `doctor/${newId()}`;
      await store.set(key, 'x', { ttlMs: 10_000 });
      await store.delete(key);
      return [
        {
          name: 'store',
          state: 'ok',
          text: `${(await store.describeServer?.()) ?? 'the store'} answers and can be written`,
        },
      ];
    } finally {
      await store.close();
    }
  } catch (error) {
    return [failure('store', error, 'check --store, and that Redis runs: `redis-cli ping`')];
  }
}

/** Tron and its token, and whom its frontends reach; where no tron answers, whether the ports for one are free. */
async function checkTron(config: Config): Promise<readonly Finding[]> {
  const client = await openClient(config);
  try {
    const { bundles } = await client.get<{ bundles: readonly Bundle[] }>('/bundles');
    return [
      { name: 'tron', state: 'ok', text: `${client.url} answers and takes the token; ${bundles.length} bundles` },
      ...(await checkDirectPath(client)),
    ];
  } catch (error) {
    const known = toFuncatronError(error);
    if (known.code !== 'TRON_DOWN') return [bad('tron', known.message, hintOf(known) ?? 'check --token')];
    const ports = [
      { port: config.httpPort, flag: '--http-port' },
      { port: config.tronPort, flag: '--tron-port' },
    ].filter(({ port }) => port !== 0);
    const findings = await Promise.all(ports.map(({ port, flag }) => checkPort(config.host, port, flag)));
    return [failure('tron', error, 'start one: `funcatron up`'), ...findings];
  }
}

async function checkPort(host: string, port: number, flag: string): Promise<Finding> {
  const server = createServer();
  const isFree = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => resolve(true));
  });
  await new Promise<void>((resolve) => (isFree ? server.close(() => resolve()) : resolve()));
  return isFree
    ? { name: 'port', state: 'ok', text: `${host}:${port} is free` }
    : bad(
        'port',
        `${host}:${port} is in use`,
        `find who listens: \`ss -ltnp 'sport = :${port}'\`, or take another: ${flag} 0`,
      );
}

function timeout(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(resolve, ms, false).unref());
}

function bad(name: string, text: string, fix: string): Finding {
  return { name, state: 'bad', text, fix };
}

function failure(name: string, error: unknown, fix: string): Finding {
  const { message, data } = toFuncatronError(error);
  return bad(name, message, data.hint ?? fix);
}
