import { eventQueue, callQueue } from '../core/wire/topology.ts';
import type { BundleState, HeldRevision, RevisionState, RunnerReport } from '../core/wire/control.ts';
import { planAssignments, revisionKey } from './planner.ts';
import { isWanted, type BundleEntry, type RevisionEntry } from './bundle-entry.ts';
import type { RegistryState } from './registry.ts';

/** What every runner should hold and every frontend should route by. */
export interface Desired {
  readonly bundles: readonly BundleState[];
  /** Of each bundle, as JSON. */
  readonly texts: readonly string[];
}

/** What was made of one bundle, and what of. */
interface Known {
  readonly entry: BundleEntry;
  /** Of its held revisions. */
  readonly keys: readonly string[];
  /** What the runners say of these. */
  readonly reported: string;
  /** Absent when no runner should hold anything of it. */
  readonly state: BundleState | undefined;
  readonly text: string;
}

/** Revisions a runner reports, by `revisionKey`. */
type Held = ReadonlyMap<string, HeldRevision>;

interface Runner {
  readonly id: string;
  readonly held: Held;
}

/**
 * The registry, spread over the runners that live. Only bundles that have changed, or of which the runners say
 * something else than before, are made anew: with 1 000 of them one deploy would otherwise be the work of all.
 */
export class DesiredState {
  readonly #held = new WeakMap<RunnerReport, Held>();
  #known: ReadonlyMap<string, Known> = new Map();
  /** Of the runners, in order. */
  #ids = '';
  #desired: Desired = { bundles: [], texts: [] };

  /** The same object as the last time while nothing is different; the same input always gives the same texts. */
  of(registry: RegistryState, reports: readonly RunnerReport[]): Desired {
    const runners = reports.map((report) => ({ id: report.id, held: this.#heldBy(report) }));
    const ids = JSON.stringify(runners.map(({ id }) => id).sort());
    const before = ids === this.#ids ? this.#known : new Map<string, Known>();
    const known = new Map<string, Known>();
    for (const entry of registry.bundles) known.set(entry.name, know(entry, runners, before.get(entry.name)));
    this.#known = known;
    this.#ids = ids;
    const listed = [...known.values()].flatMap(({ state, text }) => (state === undefined ? [] : [{ state, text }]));
    const { texts } = this.#desired;
    if (listed.length !== texts.length || listed.some(({ text }, index) => text !== texts[index]))
      this.#desired = { bundles: listed.map(({ state }) => state), texts: listed.map(({ text }) => text) };
    return this.#desired;
  }

  #heldBy(report: RunnerReport): Held {
    const known = this.#held.get(report);
    if (known !== undefined) return known;
    const held = new Map(report.revisions.map((each) => [revisionKey(each.bundle, each.revision), each]));
    this.#held.set(report, held);
    return held;
  }
}

/** The revisions of a bundle that some runner should hold: live, coming up, or draining. */
export function heldRevisions(bundle: BundleEntry): readonly RevisionEntry[] {
  return bundle.revisions.filter(({ revision }) => isWanted(bundle, revision) || revision in bundle.draining);
}

function know(entry: BundleEntry, runners: readonly Runner[], before: Known | undefined): Known {
  const isOld = before?.entry === entry;
  const keys = isOld ? before.keys : heldRevisions(entry).map(({ revision }) => revisionKey(entry.name, revision));
  const reported = keys.map((key) => runners.map(({ held }) => tell(held.get(key))).join()).join(';');
  if (isOld && before.reported === reported) return before;
  const state = keys.length === 0 ? undefined : stateOf(entry, runners);
  return { entry, keys, reported, state, text: JSON.stringify(state) ?? '' };
}

/** All of a report that makes a difference here. */
function tell(held: HeldRevision | undefined): string {
  if (held?.state === 'failed') return `failed ${held.retryAt ?? ''}`;
  return held?.state === 'ready' ? 'ready' : '';
}

/** The newest live revision (or the newest coming up) says where its routes are. */
function stateOf(bundle: BundleEntry, runners: readonly Runner[]): BundleState {
  const held = heldRevisions(bundle);
  const newest = held.findLast(({ revision }) => revision in bundle.live) ?? held.at(-1);
  return {
    name: bundle.name,
    ...(newest?.host === undefined ? {} : { host: newest.host }),
    basePath: newest?.basePath ?? '',
    weights: bundle.live,
    eventQueue: eventQueue(bundle.name),
    revisions: held.map((entry) => revisionState(bundle, entry, runners)),
  };
}

function revisionState(bundle: BundleEntry, entry: RevisionEntry, runners: readonly Runner[]): RevisionState {
  const key = revisionKey(bundle.name, entry.revision);
  const phase = phaseOf(bundle, entry.revision);
  const assigned =
    planAssignments(
      [key],
      runners.map(({ id }) => id),
    ).get(key) ?? [];
  const retryAt = Math.min(
    ...runners.filter(({ id }) => assigned.includes(id)).map(({ held }) => retryOf(held.get(key))),
  );
  return {
    revision: entry.revision,
    digest: entry.digest,
    queue: callQueue(bundle.name, entry.revision).name,
    batchMax: entry.batchMax,
    runners: assigned,
    // Nobody calls what is coming up: its runners would make a snapshot each, and delay the one that flips the routes.
    ready: phase === 'loading' ? 0 : runners.filter(({ held }) => held.get(key)?.state === 'ready').length,
    ...(phase === 'loading' || assigned.length === 0 || retryAt === 0 ? {} : { retryAt }),
    phase,
    ...(bundle.workers === undefined ? {} : { workers: bundle.workers }),
  };
}

function phaseOf(bundle: BundleEntry, revision: string): RevisionState['phase'] {
  if (revision in bundle.live) return 'serving';
  return isWanted(bundle, revision) ? 'loading' : 'draining';
}

/** When a runner that failed tries again, unix ms; 0 for one that did not fail. */
function retryOf(held: HeldRevision | undefined): number {
  return held?.state === 'failed' ? (held.retryAt ?? 0) : 0;
}
