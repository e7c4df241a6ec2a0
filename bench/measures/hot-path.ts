import { bodyOf } from '../bodies.ts';
import { benchBundles } from '../bundles.ts';
import { openCluster } from '../cluster.ts';
import { load, openLoop, type LoadResult, type OpenLoopResult } from '../load.ts';
import { median } from '../processes.ts';
import {
  brokerOf,
  clusterSubject,
  openAmqp,
  openBare,
  openEdgeRuntime,
  openEmbedded,
  openExpress,
  openFunctionsFramework,
  openMoleculer,
  openNestjs,
  type Subject,
} from '../subjects.ts';

/** One load of the closed loop. */
export interface Point {
  readonly connections: number;
  readonly bodyBytes: number;
  /** Of each round. */
  readonly seconds: number;
  readonly rounds: number;
}

export interface HotPathOptions {
  readonly points: readonly Point[];
  /** Without those no figure is compared with, and only ours at other points than the first. */
  readonly isShort: boolean;
}

export interface SubjectRow {
  readonly name: string;
  /** By point: medians over the rounds. */
  readonly loads: readonly LoadResult[];
}

export interface OpenLoopRow extends OpenLoopResult {
  readonly name: string;
  readonly callsPerS: number;
}

export interface HotPathResult {
  readonly rows: readonly SubjectRow[];
  readonly openLoops: readonly OpenLoopRow[];
}

export const BARE = 'bare node:http';
export const OURS = 'funcatron, process';
const CONNECTIONS = 64;
const WARM_UP: Point = { connections: CONNECTIONS, bodyBytes: 200, seconds: 1, rounds: 1 };

/**
 * Everything that answers the same call, one after the other in every round of a closed loop, and then the bare server
 * and ours in an open loop at half of what ours did at most. Routing, validation and the isolates are on; whoever uses a
 * broker uses the same RabbitMQ.
 */
export async function measureHotPath(options: HotPathOptions): Promise<HotPathResult> {
  const { points, isShort } = options;
  const subjects: Subject[] = [];
  const cluster = await openCluster(1);
  try {
    const broker = brokerOf(cluster);
    const kinds = isShort ? (['process'] as const) : (['process', 'thread', 'strict'] as const);
    const bundles = kinds.map((isolation) => ({ name: `bench-${isolation}`, basePath: `/${isolation}`, isolation }));
    for (const archive of await benchBundles(bundles)) await cluster.deploy(archive);
    const others = [openEdgeRuntime, openFunctionsFramework, () => openAmqp(broker)];
    const compared = [openBare, openExpress, () => openMoleculer(broker), () => openNestjs(broker), openEmbedded];
    for (const open of isShort ? compared : [...others, ...compared]) subjects.push(await open());
    subjects.push(...kinds.map((kind) => clusterSubject(cluster, broker, `funcatron, ${kind}`, `/${kind}`)));
    for (const subject of subjects) await loadOf(subject, WARM_UP);
    const rows = subjects.map(({ name }) => ({ name, loads: [] as LoadResult[] }));
    for (const point of points) {
      const results = subjects.map((): LoadResult[] => []);
      for (let round = 0; round < point.rounds; round++) {
        for (const [index, subject] of subjects.entries()) {
          if (isShort && point !== points[0] && subject.name !== OURS) continue;
          results[index]?.push(await loadOf(subject, point));
        }
      }
      for (const [index, row] of rows.entries()) row.loads.push(medianOf(results[index] ?? []));
    }
    return { rows, openLoops: await measureOpenLoops(subjects, rows, options) };
  } finally {
    for (const subject of subjects) await subject.stop();
    await cluster.close();
  }
}

async function measureOpenLoops(
  subjects: readonly Subject[],
  rows: readonly SubjectRow[],
  { points }: HotPathOptions,
): Promise<readonly OpenLoopRow[]> {
  const index = points.findIndex(({ connections }) => connections === CONNECTIONS);
  const { seconds = 0, rounds = 0 } = points[index] ?? {};
  const most = rows.find(({ name }) => name === OURS)?.loads[index]?.callsPerS ?? Number.NaN;
  const callsPerS = Math.round(most / 2);
  const compared = subjects.filter(({ name }) => name === BARE || name === OURS);
  const results = new Map<string, OpenLoopResult[]>(compared.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, url } of compared)
      results.get(name)?.push(await openLoop({ url, callsPerS, connections: CONNECTIONS, seconds }));
  }
  return [...results].map(([name, each]) => ({
    name,
    callsPerS,
    p50Ms: median(each.map((result) => result.p50Ms)),
    p99Ms: median(each.map((result) => result.p99Ms)),
    maxMs: median(each.map((result) => result.maxMs)),
    generatorLateP99Ms: median(each.map((result) => result.generatorLateP99Ms)),
    errors: each.reduce((sum, { errors }) => sum + errors, 0),
  }));
}

async function loadOf(subject: Subject, { connections, bodyBytes, seconds }: Point): Promise<LoadResult> {
  const body = bodyOf(bodyBytes);
  const loop = { url: subject.url, connections, seconds, body, watched: subject.watched() };
  return await (subject.load ?? load)(loop);
}

/** Of each figure by itself; errors are all of them. */
export function medianOf(results: readonly LoadResult[]): LoadResult {
  const names = [...new Set(results.flatMap(({ cpuUs }) => Object.keys(cpuUs)))];
  return {
    callsPerS: median(results.map((result) => result.callsPerS)),
    p50Ms: median(results.map((result) => result.p50Ms)),
    p99Ms: median(results.map((result) => result.p99Ms)),
    errors: results.reduce((sum, result) => sum + result.errors, 0),
    cpuUs: Object.fromEntries(names.map((name) => [name, median(results.map(({ cpuUs }) => cpuUs[name] ?? 0))])),
  };
}
