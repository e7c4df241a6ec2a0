import type { TestCluster } from '../../test/helpers/cluster.ts';
import { benchBundles } from '../bundles.ts';
import { openCluster } from '../cluster.ts';
import { load, type LoadResult } from '../load.ts';
import { processTree } from '../process-stat.ts';
import { medianOf } from './hot-path.ts';

const CONNECTIONS = 64;
/** Four of each share the calls: it takes so long until the code of all of them is compiled. */
const WARM_UP_S = 10;

export interface ScaleOutRow {
  /** Frontends, and as many runners. */
  readonly roles: number;
  readonly load: LoadResult;
  /** CPU microseconds per call of all frontends, runners and workers. */
  readonly cpuUsPerCall: number;
  /** Of the calls, by runner. */
  readonly shares: readonly number[];
}

/** 64 connections spread over as many frontends as there are runners, each cluster in turns with the others. */
export async function measureScaleOut(
  counts: readonly number[],
  rounds: number,
  seconds: number,
): Promise<readonly ScaleOutRow[]> {
  const clusters: { readonly roles: number; readonly cluster: TestCluster; readonly loads: LoadResult[] }[] = [];
  try {
    const workers = { min: 1, max: 1 };
    const [archive = Buffer.alloc(0)] = await benchBundles([{ name: 'bench', basePath: '', workers }]);
    for (const roles of counts) {
      const cluster = await openCluster(roles, roles);
      clusters.push({ roles, cluster, loads: [] });
      await cluster.deploy(archive);
      await loadAll(cluster, roles, WARM_UP_S);
    }
    const before = await Promise.all(clusters.map(({ cluster, roles }) => callsOf(cluster, roles)));
    for (let round = 0; round < rounds; round++) {
      for (const { cluster, roles, loads } of clusters) loads.push(await loadAll(cluster, roles, seconds));
    }
    const rows: ScaleOutRow[] = [];
    for (const [index, { cluster, roles, loads }] of clusters.entries()) {
      const made = (await callsOf(cluster, roles)).map((calls, runner) => calls - (before[index]?.[runner] ?? 0));
      const all = made.reduce((sum, calls) => sum + calls, 0);
      const result = medianOf(loads);
      rows.push({
        roles,
        load: result,
        cpuUsPerCall: Object.values(result.cpuUs).reduce((sum, us) => sum + us, 0),
        shares: made.map((calls) => calls / all),
      });
    }
    return rows;
  } finally {
    await Promise.all(clusters.map(({ cluster }) => cluster.close()));
  }
}

/** A part of the connections to each frontend, at once. */
async function loadAll(cluster: TestCluster, roles: number, seconds: number): Promise<LoadResult> {
  const each = await Promise.all(
    numbered(roles).map((role) => {
      const watched = {
        frontend: [cluster.role(`frontend-${role}`).pid],
        runner: processTree(cluster.role(`runner-${role}`).pid),
      };
      const url = `${cluster.role(`frontend-${role}`).url}/hello/ann`;
      return load({ url, connections: CONNECTIONS / roles, seconds, watched });
    }),
  );
  const callsPerS = each.reduce((sum, result) => sum + result.callsPerS, 0);
  // CPU time per call was counted against the calls of one frontend: what counts is all of it by all calls.
  const cpuUs = (name: string): number =>
    each.reduce((sum, result) => sum + (result.cpuUs[name] ?? 0) * result.callsPerS, 0) / callsPerS;
  return { ...medianOf(each), callsPerS, cpuUs: { frontend: cpuUs('frontend'), runner: cpuUs('runner') } };
}

/** Calls answered so far, by runner. */
async function callsOf(cluster: TestCluster, roles: number): Promise<readonly number[]> {
  return await Promise.all(
    numbered(roles).map(async (role) => {
      const response = await fetch(`${cluster.role(`runner-${role}`).adminUrl}/metrics`);
      const lines = (await response.text()).matchAll(/^funcatron_runner_calls_total\{.*\} (\d+)$/gm);
      return [...lines].reduce((sum, [, calls]) => sum + Number(calls), 0);
    }),
  );
}

function numbered(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}
