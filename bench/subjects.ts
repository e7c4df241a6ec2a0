import { join } from 'node:path';
import type { TestCluster } from '../test/helpers/cluster.ts';
import { freePort } from '../test/helpers/servers/port.ts';
import { BODY } from './bodies.ts';
import { installPeer } from './peers.ts';
import { processTree, programOf } from './process-stat.ts';
import { answers, root, start, temporaryFolder, type Started } from './processes.ts';
import { amqpLoad, type ClosedLoop, type LoadResult, type Watched } from './load.ts';

/** A measured program: where to post to, and whose CPU time to read. */
export interface Subject {
  readonly name: string;
  readonly url: string;
  watched(): Watched;
  /** Default: HTTP posts to `url`. */
  readonly load?: (loop: ClosedLoop) => Promise<LoadResult>;
  stop(): Promise<void>;
}

/** What peers share with ours. */
export interface SharedBroker {
  readonly url: string;
  /** None where it runs elsewhere. */
  readonly pids: readonly number[];
}

/** Its own pid is one of a namespace, so it is looked for among what this process has started. */
export function brokerOf({ rabbit }: TestCluster): SharedBroker {
  return { url: rabbit.url(), pids: processTree(process.pid).filter((pid) => programOf(pid) === 'beam.smp') };
}

const PRODUCTION = { NODE_ENV: 'production' };

/** A `node:http` server that parses the JSON and answers it: the ceiling. */
export const openBare = (): Promise<Subject> => server('bare node:http', join(root, 'bench/bare.mjs'));
export const openExpress = (): Promise<Subject> => server('Express', join(root, 'bench/express.mjs'));
export const openFunctionsFramework = (): Promise<Subject> =>
  server('functions-framework', join(installPeer('functions-framework'), 'index.cjs'));
export const openEdgeRuntime = (): Promise<Subject> =>
  server('edge-runtime', join(installPeer('edge-runtime'), 'server.mjs'));
export const openMoleculer = (broker: SharedBroker): Promise<Subject> =>
  pair('Moleculer over RabbitMQ', join(installPeer('moleculer'), 'node.mjs'), broker);
export const openNestjs = (broker: SharedBroker): Promise<Subject> =>
  pair('NestJS over RabbitMQ', join(installPeer('nestjs'), 'node.mjs'), broker);

/** One request and reply for a call, no HTTP: the broker's limit. `connections` of a load are requests on their way. */
export async function openAmqp(broker: SharedBroker, isConfirmed = false): Promise<Subject> {
  const queue = isConfirmed ? 'bench.amqplib-confirmed' : 'bench.amqplib';
  const args = [join(root, 'bench/responder.mjs'), broker.url, queue, isConfirmed ? 'confirm' : ''];
  const started = await start(process.execPath, args, PRODUCTION, isReady);
  const watched = { responder: [started.pid], RabbitMQ: broker.pids };
  return {
    name: isConfirmed ? 'amqplib request/reply, confirmed' : 'amqplib request/reply',
    url: '',
    watched: () => watched,
    load: ({ connections, ...loop }) =>
      amqpLoad({ brokerUrl: broker.url, queue, watched, outstanding: connections, isConfirmed, ...loop }),
    stop: () => started.stop(),
  };
}

/** `funcatron up`: every role in one process. */
export async function openEmbedded(): Promise<Subject> {
  const folder = await temporaryFolder();
  const port = await freePort();
  const ports = ['--http-port', String(port), '--tron-port', '0', '--admin-port', '0'];
  const url = `http://127.0.0.1:${port}/hello/ann`;
  const args = [join(root, 'dist/cli/main.js'), 'up', join(root, 'bench/bundle'), ...ports, '--data', folder.path];
  const started = await start(process.execPath, [...args, '--log-level', 'warn'], PRODUCTION, () => isOk(url));
  return {
    name: 'funcatron embedded',
    url,
    watched: () => rolesOf('funcatron', started.pid),
    async stop() {
      await started.stop();
      await folder.remove();
    },
  };
}

/** The first frontend and runner of a cluster that holds a bundle of the bench below `basePath`. */
export function clusterSubject(cluster: TestCluster, broker: SharedBroker, name: string, basePath: string): Subject {
  return {
    name,
    url: `${cluster.role('frontend-1').url}${basePath}/hello/ann`,
    watched: () => ({
      frontend: [cluster.role('frontend-1').pid],
      ...rolesOf('runner', cluster.role('runner-1').pid),
      RabbitMQ: broker.pids,
    }),
    stop: () => Promise.resolve(),
  };
}

/** A process, and what it has started: there they are workers. */
function rolesOf(name: string, pid: number): Watched {
  return { [name]: [pid], workers: processTree(pid).slice(1) };
}

async function server(name: string, program: string): Promise<Subject> {
  const port = await freePort();
  const started = await start(process.execPath, [program, String(port)], PRODUCTION, isReady);
  return subject(name, port, { server: [started.pid] }, [started]);
}

async function pair(name: string, program: string, broker: SharedBroker): Promise<Subject> {
  const port = await freePort();
  const service = await start(process.execPath, [program, 'service', broker.url], PRODUCTION, isReady);
  const gateway = await start(process.execPath, [program, 'gateway', broker.url, String(port)], PRODUCTION, isReady);
  return subject(name, port, { gateway: [gateway.pid], service: [service.pid], RabbitMQ: broker.pids }, [
    gateway,
    service,
  ]);
}

async function subject(name: string, port: number, watched: Watched, started: readonly Started[]): Promise<Subject> {
  const url = `http://127.0.0.1:${port}/hello/ann`;
  const stop = async (): Promise<void> => void (await Promise.all(started.map((each) => each.stop())));
  if (!(await isOk(url))) {
    await stop();
    throw new Error(`${name} does not answer as it should`);
  }
  return { name, url, watched: () => watched, stop };
}

function isReady(text: string): boolean {
  return text.includes('ready');
}

/** Whether it answers a call with the call's own name and body. */
async function isOk(url: string): Promise<boolean> {
  const init = { method: 'POST', body: BODY, headers: { 'content-type': 'application/json' } };
  if (!(await answers(url, init))) return false;
  const response = await fetch(url, init);
  const text = await response.text();
  return response.status === 200 && text === JSON.stringify({ hello: 'ann', body: JSON.parse(BODY) as unknown });
}
