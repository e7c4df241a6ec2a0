import { FuncatronError, type ErrorCode, type ErrorData } from '../core/errors.ts';

/** Share of the calls by revision. */
export type Weights = Readonly<Record<string, number>>;

/** One bundle of the registry. Plain data: the functions below give a new one. */
export interface BundleEntry {
  readonly name: string;
  /** Oldest first. */
  readonly revisions: readonly RevisionEntry[];
  /** Where the alias `live` points. */
  readonly live: Weights;
  /** What was live before, oldest first; `rollback` takes the last. */
  readonly history: readonly Weights[];
  /** Revisions that get no more calls and are still held, since when (unix ms). */
  readonly draining: Readonly<Record<string, number>>;
  /** Set by `scale`; otherwise the manifest's. */
  readonly workers?: { readonly min: number; readonly max: number };
  /** The change under way; at most one a bundle. */
  readonly change?: Change;
  readonly lastChange?: LastChange;
}

export interface RevisionEntry {
  readonly revision: string;
  readonly digest: string;
  readonly createdAt: number;
  /** The document's `info.version`. */
  readonly version: string;
  readonly host?: string;
  readonly basePath: string;
  readonly batchMax: number;
}

/**
 * A transaction on what is live. `loading`: the target's revisions come up, nothing is routed to them; → `flipped`:
 * `live` is the target, frontends follow, what is no longer weighted drains; → gone, with `lastChange` telling how it
 * ended. From `loading` a failure leads back to where it was, from `flipped` too, with the target's revisions draining.
 */
export interface Change {
  /** Id of the command that asked for it. */
  readonly command: string;
  readonly kind: 'deploy' | 'alias' | 'rollback' | 'remove';
  readonly target: Weights;
  readonly previous: Weights;
  readonly phase: 'loading' | 'flipped';
  /** Unix ms. */
  readonly startedAt: number;
  /** With `remove`: the bundle's events and data go too. */
  readonly purge: boolean;
}

export interface LastChange {
  readonly command: string;
  readonly kind: Change['kind'];
  readonly at: number;
  readonly target: Weights;
  /** Why it failed; absent when it went well. */
  readonly error?: { readonly code: ErrorCode; readonly message: string; readonly data: ErrorData };
}

/** Steps back that `rollback` can take. */
const HISTORY_LENGTH = 20;

/** Begins a change. @throws DEPLOY_IN_PROGRESS when another one of this bundle is under way */
export function startChange(bundle: BundleEntry, change: Omit<Change, 'previous' | 'phase'>): BundleEntry {
  if (bundle.change !== undefined) {
    throw new FuncatronError(
      'DEPLOY_IN_PROGRESS',
      `a ${bundle.change.kind} of ${bundle.name} has been under way since ${new Date(bundle.change.startedAt).toISOString()}`,
      { data: { retryAfterS: 1, hint: 'wait until it is done, then ask again' } },
    );
  }
  return {
    ...bundle,
    change: { ...change, previous: bundle.live, phase: 'loading' },
  };
}

/** The target is live now; what it does not weigh drains. */
export function flipChange(bundle: BundleEntry, change: Change, now: number): BundleEntry {
  return {
    ...bundle,
    live: change.target,
    draining: drain(bundle.draining, change.previous, change.target, now),
    change: { ...change, phase: 'flipped' },
  };
}

/** The change went well: what was live before goes to the history, or comes from it. */
export function finishChange(bundle: BundleEntry, change: Change, now: number): BundleEntry {
  const { change: _change, ...rest } = bundle;
  return { ...rest, history: nextHistory(bundle.history, change), lastChange: lastChangeOf(change, now) };
}

/** Back to where it was before the change. */
export function failChange(bundle: BundleEntry, change: Change, now: number, error: FuncatronError): BundleEntry {
  const { change: _change, ...rest } = bundle;
  const { code, message, data } = error;
  const lastChange = { ...lastChangeOf(change, now), error: { code, message, data } };
  if (change.phase === 'loading') return { ...rest, lastChange };
  return {
    ...rest,
    live: change.previous,
    draining: drain(bundle.draining, change.target, change.previous, now),
    lastChange,
  };
}

/** Whether calls go to the revision, or shall when the change under way is done. */
export function isWanted(bundle: BundleEntry, revision: string): boolean {
  return revision in bundle.live || (bundle.change?.phase === 'loading' && revision in bundle.change.target);
}

/** A drained revision is held no longer. */
export function retireRevision(bundle: BundleEntry, revision: string): BundleEntry {
  return { ...bundle, draining: omit(bundle.draining, [revision]) };
}

function lastChangeOf(change: Change, at: number): LastChange {
  return { command: change.command, kind: change.kind, at, target: change.target };
}

function nextHistory(history: readonly Weights[], change: Change): readonly Weights[] {
  if (change.kind === 'rollback') return history.slice(0, -1);
  if (Object.keys(change.previous).length === 0) return history;
  return [...history, change.previous].slice(-HISTORY_LENGTH);
}

function drain(draining: BundleEntry['draining'], from: Weights, to: Weights, now: number): BundleEntry['draining'] {
  const next: Record<string, number> = { ...omit(draining, Object.keys(to)) };
  for (const revision of Object.keys(from)) if (!(revision in to)) next[revision] ??= now;
  return next;
}

function omit<T>(record: Readonly<Record<string, T>>, keys: readonly string[]): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => !keys.includes(key)));
}

/** Revisions that are kept although nothing points to them, the newest. */
const SPARE_REVISIONS = 20;

/** Old revisions that nobody can go back to by `rollback`, and that neither serve nor drain nor come up. */
export function surplusRevisions(bundle: BundleEntry): readonly RevisionEntry[] {
  const pointedTo = new Set(bundle.history.flatMap((weights) => Object.keys(weights)));
  const idle = bundle.revisions.filter(
    ({ revision }) => !pointedTo.has(revision) && !isWanted(bundle, revision) && !(revision in bundle.draining),
  );
  return idle.slice(0, -SPARE_REVISIONS);
}
