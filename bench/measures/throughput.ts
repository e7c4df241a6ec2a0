import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { freePort } from '../../test/helpers/servers/port.ts';
import { openCluster, benchArchive } from '../cluster.ts';
import { BODY, load, type LoadResult } from '../load.ts';
import { answers, median, root, start, type Started } from '../processes.ts';

/** One measured program: where to post to, and whose CPU time to read. */
interface Subject {
  readonly name: string;
  readonly url: string;
  readonly pids: Readonly<Record<string, number>>;
}

export interface ThroughputRow {
  readonly name: string;
  readonly callsPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
  readonly cpuUs: Readonly<Record<string, number>>;
}

/**
 * Posts ~200 bytes to a bare `node:http` server, a Moleculer gateway + service, and funcatron's frontend + runner
 * (routing, validation and the process isolate on), the last two over one RabbitMQ, one after the other in every
 * round. Medians over the rounds.
 */
export async function measureThroughput(
  connections: number,
  rounds: number,
  seconds: number,
): Promise<readonly ThroughputRow[]> {
  const cluster = await openCluster(1);
  const stops: Started[] = [];
  try {
    await cluster.deploy(await benchArchive());
    const bare = await startBare();
    stops.push(bare.started);
    const moleculer = await startMoleculer(cluster.rabbit.url());
    stops.push(...moleculer.started);
    const subjects: Subject[] = [
      { name: 'bare node:http', url: bare.url, pids: { server: bare.started.pid } },
      { name: 'moleculer over RabbitMQ', url: moleculer.url, pids: moleculer.pids },
      {
        name: 'funcatron over RabbitMQ',
        url: `${cluster.role('frontend-1').url}/hello/ann`,
        pids: { frontend: cluster.role('frontend-1').pid, runner: cluster.role('runner-1').pid },
      },
    ];
    for (const subject of subjects) await load(subject.url, connections, 2, {}); // warm-up
    const results = new Map<string, LoadResult[]>(subjects.map(({ name }) => [name, []]));
    for (let round = 0; round < rounds; round++) {
      for (const subject of subjects)
        results.get(subject.name)?.push(await load(subject.url, connections, seconds, subject.pids));
    }
    return subjects.map(({ name }) => summarize(name, results.get(name) ?? []));
  } finally {
    for (const each of stops) await each.stop();
    await cluster.close();
  }
}

function summarize(name: string, results: readonly LoadResult[]): ThroughputRow {
  const names = Object.keys(results[0]?.cpuUs ?? {});
  return {
    name,
    callsPerS: median(results.map((result) => result.callsPerS)),
    p50Ms: median(results.map((result) => result.p50Ms)),
    p99Ms: median(results.map((result) => result.p99Ms)),
    errors: results.reduce((sum, result) => sum + result.errors, 0),
    cpuUs: Object.fromEntries(names.map((each) => [each, median(results.map((result) => result.cpuUs[each] ?? 0))])),
  };
}

/** A `node:http` server that parses the JSON and answers it: the ceiling. */
export async function startBare(): Promise<{ url: string; started: Started }> {
  const port = await freePort();
  const started = await start(process.execPath, [join(root, 'bench/bare.mjs'), String(port)], {}, (text) =>
    text.includes('ready'),
  );
  return { url: `http://127.0.0.1:${port}/hello/ann`, started };
}

async function startMoleculer(
  brokerUrl: string,
): Promise<{ url: string; started: Started[]; pids: Record<string, number> }> {
  const folder = join(root, 'bench/peers/moleculer');
  const { status } = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: folder,
    stdio: ['ignore', 2, 'inherit'],
  });
  if (status !== 0) throw new Error(`npm ci in ${folder} ended with ${status}`);
  const port = await freePort();
  const ready = (text: string): boolean => text.includes('ready');
  const service = await start(process.execPath, [join(folder, 'node.mjs'), 'service', brokerUrl], {}, ready);
  const gateway = await start(
    process.execPath,
    [join(folder, 'node.mjs'), 'gateway', brokerUrl, String(port)],
    {},
    ready,
  );
  const url = `http://127.0.0.1:${port}/hello/ann`;
  if (!(await answers(url, { method: 'POST', body: BODY, headers: { 'content-type': 'application/json' } })))
    throw new Error('moleculer does not answer');
  return { url, started: [gateway, service], pids: { gateway: gateway.pid, service: service.pid } };
}
