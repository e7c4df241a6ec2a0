import { createRouter, type Router } from '../../core/openapi/router.ts';
import type { TestCluster } from '../../test/helpers/cluster.ts';
import { benchBundles } from '../bundles.ts';
import { openCluster } from '../cluster.ts';
import { COLLECTABLE, collectGarbage } from '../collect.ts';
import { load, type LoadResult } from '../load.ts';
import { pssBytes } from '../process-stat.ts';
import { median } from '../processes.ts';
import { brokerOf, clusterSubject, type Subject } from '../subjects.ts';
import { medianOf } from './hot-path.ts';

/** Beside `/hello/{name}`: ten routes a bundle. */
const MORE_ROUTES = 9;
const CONNECTIONS = 64;
/** Uploads on their way at once: as many as Tron takes. */
const DEPLOYING = 4;
/** As long as a frontend that has only just deployed so many takes to be as fast as it was. */
const WARM_UP_S = 5;
const LOOKUPS = 1_000_000;

export interface BundlesRow {
  readonly bundles: number;
  readonly load: LoadResult;
  /** The same load in turns with this one, on a cluster with one bundle. */
  readonly oneBundle: LoadResult;
  readonly lookupUs: number;
  /** More than that of the cluster with one bundle, after the same loads (median of the rounds), and when both have collected their garbage. */
  readonly frontendMoreMb: number;
  readonly heldMoreMb: number;
  /** Of those that came to the bundles before: so many on their way at once, milliseconds from one end to the next. */
  readonly deployMs: number;
}

interface Plan {
  readonly counts: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
}

/** One bundle of ten routes called among so many deployed ones, in turns with the same bundle deployed alone. */
export async function measureBundles({ counts, rounds, seconds }: Plan): Promise<readonly BundlesRow[]> {
  const alone = await openCluster(1, 1, COLLECTABLE);
  const many = await openCluster(1, 1, COLLECTABLE);
  try {
    const subjects = [alone, many].map((cluster) => clusterSubject(cluster, brokerOf(cluster), '', '/b0'));
    await deploy(alone, 0, 1);
    const rows: BundlesRow[] = [];
    for (const [index, bundles] of counts.entries()) {
      const deployMs = await deploy(many, counts[index - 1] ?? 0, bundles);
      for (const subject of subjects) await loadOf(subject, WARM_UP_S);
      const results: LoadResult[][] = [[], []];
      const moreMb: number[] = [];
      for (let round = 0; round < rounds; round++) {
        for (const [which, subject] of subjects.entries()) results[which]?.push(await loadOf(subject, seconds));
        moreMb.push(frontendMb(many) - frontendMb(alone));
      }
      const [ofOne = [], ofMany = []] = results;
      for (const cluster of [alone, many]) await collectGarbage(cluster.role('frontend-1'));
      rows.push({
        bundles,
        load: medianOf(ofMany),
        oneBundle: medianOf(ofOne),
        lookupUs: lookupUs(bundles),
        frontendMoreMb: median(moreMb),
        heldMoreMb: frontendMb(many) - frontendMb(alone),
        deployMs,
      });
    }
    return rows;
  } finally {
    await Promise.all([alone.close(), many.close()]);
  }
}

async function loadOf({ url }: Subject, seconds: number): Promise<LoadResult> {
  return await load({ url, connections: CONNECTIONS, seconds });
}

async function deploy(cluster: TestCluster, from: number, to: number): Promise<number> {
  const names = Array.from({ length: to - from }, (_, index) => from + index);
  const archives = await benchBundles(
    names.map((index) => ({
      name: `b${index}`,
      basePath: `/b${index}`,
      moreRoutes: MORE_ROUTES,
      // A runner has room for the workers of a few: the others are idle.
      workers: { min: index === 0 ? 1 : 0, max: 1 },
      // Each has a worker when it comes; hundreds that end 30 s later would do so in the middle of the loads.
      idleTimeoutS: 1,
    })),
  );
  const left = archives.values();
  const beganMs = performance.now();
  await Promise.all(
    Array.from({ length: DEPLOYING }, async () => {
      for (const archive of left) await cluster.deploy(archive);
    }),
  );
  return (performance.now() - beganMs) / archives.length;
}

function frontendMb(cluster: TestCluster): number {
  return pssBytes([cluster.role('frontend-1').pid]) / 2 ** 20;
}

/** One lookup among the routes of so many bundles, in this process. */
function lookupUs(bundles: number): number {
  const routes = Array.from({ length: bundles }, (_, bundle) =>
    Array.from({ length: MORE_ROUTES + 1 }, (_each, route) => ({
      basePath: `/b${bundle}`,
      method: 'POST',
      path: route === 0 ? '/hello/{name}' : `/more-${route - 1}/{name}`,
      value: route,
    })),
  ).flat();
  const router = createRouter(routes);
  const paths = routes.map(({ basePath, path }) => basePath + path.replace('{name}', 'ann'));
  lookUp(router, paths); // Compiled by now.
  const { user } = process.cpuUsage();
  lookUp(router, paths);
  // CPU time: whoever else runs on this machine does not count.
  return (process.cpuUsage().user - user) / LOOKUPS;
}

function lookUp(router: Router<number>, paths: readonly string[]): void {
  let found = 0;
  for (let index = 0; index < LOOKUPS; index++)
    if (router.match('127.0.0.1', 'POST', paths[(index * 7919) % paths.length] ?? '').kind === 'found') found++;
  if (found < LOOKUPS) throw new Error('a route was not found');
}
