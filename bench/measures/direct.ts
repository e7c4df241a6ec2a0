import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packBundle } from '../../core/bundle/pack.ts';
import type { TestCluster } from '../../test/helpers/cluster.ts';
import { freePort } from '../../test/helpers/servers/port.ts';
import { openCluster } from '../cluster.ts';
import { load, type Watched } from '../load.ts';
import { cpuSeconds, peakRssBytes, processTree, resetPeakRss, rssBytes } from '../process-stat.ts';
import { median, root, start } from '../processes.ts';
import { brokerOf } from '../subjects.ts';

const RUNTIMES = ['js', 'node'] as const;
/** What the funcs do: `hash` reads a body and answers a line, `pass` answers the body itself. */
const WORK = ['hash', 'pass'] as const;

const GIB = 2 ** 30;
const WARM_UP_BYTES = 2 ** 26;

export interface DirectOptions {
  readonly bytes: number;
  readonly rounds: number;
}

/** One body through one subject: medians over the rounds. */
export interface Passage {
  readonly mibPerS: number;
  /** CPU seconds per GiB of each process, by name; the client that makes the load too. */
  readonly cpuSPerGib: Readonly<Record<string, number>>;
}

export interface DirectRow {
  readonly runtime: (typeof RUNTIMES)[number];
  readonly work: (typeof WORK)[number];
  readonly proxied: Passage;
  readonly direct: Passage;
}

export interface DirectResult {
  readonly rows: readonly DirectRow[];
  /** How much resident memory of each process grew from before the first body to its peak, MiB by name. */
  readonly proxiedGrownMib: Readonly<Record<string, number>>;
  readonly directGrownMib: Readonly<Record<string, number>>;
}

interface Route {
  readonly url: string;
  watched(): Watched;
}

interface Transfer {
  readonly seconds: number;
  readonly tail: string;
  readonly cpuS: number;
}

/** A long body through a func, in turns with a bare proxy before a server that does the same with it. */
export async function measureDirect(options: DirectOptions): Promise<DirectResult> {
  const proxy = await openProxy();
  const cluster = await openCluster(0);
  try {
    await cluster.start('runner-1', { env: { FUNCATRON_RUNTIMES: RUNTIMES.join(',') } });
    for (const runtime of RUNTIMES)
      await cluster.deploy((await packBundle(join(root, 'bench/direct', runtime))).archive);
    const ours = clusterRoute(cluster);
    const growths = [await watchMemory(proxy), await watchMemory(ours)];
    const rows: DirectRow[] = [];
    for (const runtime of RUNTIMES) {
      for (const work of WORK) {
        const routes = [proxy, ours].map((route) => ({ ...route, url: `${route.url}/${runtime}/${work}` }));
        const [proxied, direct] = await passInTurns(routes, options);
        if (proxied !== undefined && direct !== undefined) rows.push({ runtime, work, proxied, direct });
      }
    }
    const [proxiedGrownMib = {}, directGrownMib = {}] = growths.map((growth) => growth());
    return { rows, proxiedGrownMib, directGrownMib };
  } finally {
    await cluster.close();
    await proxy.stop();
  }
}

/** By how much memory has grown to its peak since now. Short calls come first: a process without any yet is smaller than one in service. */
async function watchMemory(route: Route): Promise<() => Record<string, number>> {
  for (const runtime of RUNTIMES)
    for (const work of WORK) await load({ url: `${route.url}/${runtime}/${work}`, connections: 8, seconds: 1 });
  const before = memoryOf(route, rssBytes);
  for (const pids of Object.values(route.watched())) resetPeakRss(pids);
  return () => eachOf(memoryOf(route, peakRssBytes), (name, peak) => (peak - (before[name] ?? 0)) / 2 ** 20);
}

async function passInTurns(routes: readonly Route[], { bytes, rounds }: DirectOptions): Promise<readonly Passage[]> {
  for (const { url } of routes) await pass(url, WARM_UP_BYTES);
  const samples = routes.map((): Passage[] => []);
  for (let round = 0; round < rounds; round++)
    for (const [index, route] of routes.entries()) samples[index]?.push(await sample(route, bytes));
  return samples.map((mine) => ({
    mibPerS: median(mine.map(({ mibPerS }) => mibPerS)),
    cpuSPerGib: eachOf(mine[0]?.cpuSPerGib, (name) => median(mine.map(({ cpuSPerGib }) => cpuSPerGib[name] ?? 0))),
  }));
}

async function sample(route: Route, bytes: number): Promise<Passage> {
  const watched = route.watched();
  const before = eachOf(watched, (name) => cpuSeconds(watched[name] ?? []));
  const { seconds, cpuS } = await pass(route.url, bytes);
  const used = eachOf(watched, (name) => cpuSeconds(watched[name] ?? []) - (before[name] ?? 0));
  const cpuSPerGib = eachOf({ ...used, client: cpuS }, (_name, spent) => (spent / bytes) * GIB);
  return { mibPerS: bytes / 2 ** 20 / seconds, cpuSPerGib };
}

/** Sends a body and reads the answer. @throws when that is not whole */
export async function pass(url: string, bytes: number): Promise<Transfer> {
  const client = join(root, 'bench/direct/client.mjs');
  const { stdout } = await promisify(execFile)(process.execPath, [client, url, String(bytes)]);
  const transfer = JSON.parse(stdout) as Transfer;
  if (url.endsWith('/hash') && !transfer.tail.includes(`"bytes":${bytes},`))
    throw new Error(`not all of ${bytes} bytes were hashed: ${transfer.tail}`);
  return transfer;
}

function memoryOf(route: Route, read: (pids: readonly number[]) => number): Record<string, number> {
  const watched = route.watched();
  return eachOf(watched, (name) => read(watched[name] ?? []));
}

function eachOf<T, R>(record: Readonly<Record<string, T>> = {}, of: (name: string, value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, of(name, value)]));
}

function clusterRoute(cluster: TestCluster): Route {
  const [runner = 0] = processTree(cluster.role('runner-1').pid);
  return {
    url: cluster.role('frontend-1').url,
    watched: () => ({
      frontend: [cluster.role('frontend-1').pid],
      runner: [runner],
      workers: processTree(runner).slice(1),
      RabbitMQ: brokerOf(cluster).pids,
    }),
  };
}

async function openProxy(): Promise<Route & { stop(): Promise<void> }> {
  const [port, serverPort] = [await freePort(), await freePort()];
  const isReady = (text: string): boolean => text.includes('ready');
  const program = (name: string): string => join(root, 'bench/direct', name);
  const server = await start(process.execPath, [program('server.mjs'), String(serverPort)], {}, isReady);
  const proxy = await start(process.execPath, [program('proxy.mjs'), String(port), String(serverPort)], {}, isReady);
  return {
    url: `http://127.0.0.1:${port}`,
    watched: () => ({ proxy: [proxy.pid], server: [server.pid] }),
    async stop() {
      await proxy.stop();
      await server.stop();
    },
  };
}
