import { eventQueue, callQueue } from '../core/wire/topology.ts';
import type { BundleState, RevisionState, RunnerReport } from '../core/wire/control.ts';
import { planAssignments, revisionKey, type Assignments } from './planner.ts';
import { isWanted, type BundleEntry, type RevisionEntry } from './bundle-entry.ts';
import type { RegistryState } from './registry.ts';

/**
 * What every runner should hold and every frontend should route by: the registry, spread over the runners that live.
 * Pure; the same input gives the same text as JSON.
 */
export function desiredBundles(registry: RegistryState, runners: readonly RunnerReport[]): readonly BundleState[] {
  const held = registry.bundles.flatMap((bundle) =>
    heldRevisions(bundle).map((entry) => revisionKey(bundle.name, entry.revision)),
  );
  const assignments = planAssignments(
    held,
    runners.map((runner) => runner.id),
  );
  const ready = countReady(runners);
  const retries = retriesOf(runners);
  return registry.bundles.flatMap((bundle) => {
    const revisions = heldRevisions(bundle).map((entry) =>
      revisionState(bundle, entry, { assignments, ready, retries }),
    );
    return revisions.length === 0 ? [] : [{ ...homeOf(bundle), revisions }];
  });
}

/** The revisions of a bundle that some runner should hold: live, coming up, or draining. */
export function heldRevisions(bundle: BundleEntry): readonly RevisionEntry[] {
  return bundle.revisions.filter(({ revision }) => isWanted(bundle, revision) || revision in bundle.draining);
}

/** Name, place and weights; the newest live revision (or the newest coming up) says where its routes are. */
function homeOf(bundle: BundleEntry): Omit<BundleState, 'revisions'> {
  const held = heldRevisions(bundle);
  const newest = held.findLast(({ revision }) => revision in bundle.live) ?? held.at(-1);
  return {
    name: bundle.name,
    ...(newest?.host === undefined ? {} : { host: newest.host }),
    basePath: newest?.basePath ?? '',
    weights: bundle.live,
    eventQueue: eventQueue(bundle.name),
  };
}

function revisionState(
  bundle: BundleEntry,
  entry: RevisionEntry,
  { assignments, ready, retries }: Fleet,
): RevisionState {
  const key = revisionKey(bundle.name, entry.revision);
  const phase = phaseOf(bundle, entry.revision);
  const runners = assignments.get(key) ?? [];
  const tries = runners.map((runner) => retries.get(key)?.get(runner) ?? 0);
  const retryAt = Math.min(...tries);
  return {
    revision: entry.revision,
    digest: entry.digest,
    queue: callQueue(bundle.name, entry.revision).name,
    batchMax: entry.batchMax,
    runners,
    // Nobody calls what is coming up: its runners would make a snapshot each, and delay the one that flips the routes.
    ready: phase === 'loading' ? 0 : (ready.get(key) ?? 0),
    ...(phase === 'loading' || runners.length === 0 || retryAt === 0 ? {} : { retryAt }),
    phase,
    ...(bundle.workers === undefined ? {} : { workers: bundle.workers }),
  };
}

function phaseOf(bundle: BundleEntry, revision: string): RevisionState['phase'] {
  if (revision in bundle.live) return 'serving';
  return isWanted(bundle, revision) ? 'loading' : 'draining';
}

/** What the runners are to hold and do hold, by revision. */
interface Fleet {
  readonly assignments: Assignments;
  readonly ready: ReadonlyMap<string, number>;
  readonly retries: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

/** When each runner that failed tries again, by revision and runner. */
function retriesOf(runners: readonly RunnerReport[]): Fleet['retries'] {
  const retries = new Map<string, Map<string, number>>();
  for (const runner of runners) {
    for (const { bundle, revision, state, retryAt } of runner.revisions) {
      if (state !== 'failed' || retryAt === undefined) continue;
      const key = revisionKey(bundle, revision);
      retries.set(key, (retries.get(key) ?? new Map<string, number>()).set(runner.id, retryAt));
    }
  }
  return retries;
}

function countReady(runners: readonly RunnerReport[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const runner of runners) {
    for (const held of runner.revisions) {
      if (held.state !== 'ready') continue;
      const key = revisionKey(held.bundle, held.revision);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  return counts;
}
