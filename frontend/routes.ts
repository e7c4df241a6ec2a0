import { backoffMs } from '../core/deadline.ts';
import { toFuncatronError } from '../core/errors.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { BundleState, RevisionState, Snapshot } from '../core/wire/control.ts';
import type { Records } from './records.ts';
import { Revision, revisionKey } from './revision.ts';
import { createRouteTables, type RouteTable } from './route-table.ts';

export interface RoutesOptions {
  readonly records: Records;
  readonly log: Log;
  /** A new table is active: calls are routed by it from now on. */
  onTable(table: RouteTable): void;
}

/** Keeps the route table true to the newest snapshot. A bundle whose routes cannot be loaded keeps its old ones. */
export class Routes implements Closable {
  readonly #options: RoutesOptions;
  readonly #tables = createRouteTables();
  /** By `revisionKey`: those of the snapshot, and older ones that still have calls in flight. */
  readonly #held = new Map<string, Revision>();
  #table: RouteTable | undefined;
  #failures: Readonly<Record<string, string>> = {};
  /** The bundles the table was made of, by name. */
  #active: ReadonlyMap<string, BundleState> = new Map();
  #wanted: Snapshot | undefined;
  /** Digests whose records were kept on the disk last. */
  #kept: ReadonlySet<string> | undefined;
  /** Ends the wait before the next attempt when there is a newer snapshot. */
  #wake = new AbortController();
  #isClosed = false;
  #loading: Promise<void> | undefined;

  constructor(options: RoutesOptions) {
    this.#options = options;
  }

  /** The active table; `undefined` before the first snapshot was loaded. */
  get table(): RouteTable | undefined {
    return this.#table;
  }

  /** Bundles whose newest routes could not be loaded, by name, with the reason. */
  get failures(): Readonly<Record<string, string>> {
    return this.#failures;
  }

  /** Calls in flight by `<bundle>@<revision>`; absent = 0. */
  inFlight(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const [key, revision] of this.#held) if (revision.inFlight > 0) counts[key] = revision.inFlight;
    return counts;
  }

  /** Makes this snapshot's routes the active ones as soon as they are loaded. */
  want(snapshot: Snapshot): void {
    if (this.#isClosed) return;
    this.#wanted = snapshot;
    this.#wake.abort();
    this.#loading ??= this.#load().finally(() => (this.#loading = undefined));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake.abort();
    await this.#loading;
  }

  async #load(): Promise<void> {
    for (let attempt = 0; this.#wanted !== undefined && !this.#isClosed; attempt++) {
      const snapshot = this.#wanted;
      this.#wake = new AbortController();
      this.#activate(snapshot, await this.#hold(snapshot));
      if (snapshot !== this.#wanted) {
        attempt = -1;
      } else if (Object.keys(this.#failures).length === 0) {
        this.#wanted = undefined;
        await this.#keepRecords(new Set(snapshot.bundles.flatMap(digestsOf)));
      } else {
        await delay(backoffMs(attempt, 200, 10_000), this.#wake.signal);
      }
    }
  }

  /** Loads what is missing; what could not be loaded is in the result, by bundle. */
  async #hold(snapshot: Snapshot): Promise<Record<string, string>> {
    const failures: Record<string, string> = {};
    const missing = snapshot.bundles.flatMap((bundle) =>
      weightedRevisions(bundle).flatMap((state) => (this.#isHeld(bundle.name, state) ? [] : [{ bundle, state }])),
    );
    await Promise.all(
      missing.map(async ({ bundle: { name }, state }) => {
        try {
          await this.#holdRevision(name, state);
        } catch (error) {
          failures[name] = toFuncatronError(error).message;
          this.#options.log.warn(
            { err: error, bundle: name },
            'cannot load the routes of a bundle yet; the old ones stay',
          );
        }
      }),
    );
    return failures;
  }

  #isHeld(bundle: string, state: RevisionState): boolean {
    const target = this.#held.get(revisionKey(bundle, state.revision))?.target;
    return target !== undefined && target.queue === state.queue && target.batchMax === state.batchMax;
  }

  async #holdRevision(bundle: string, state: RevisionState): Promise<void> {
    const key = revisionKey(bundle, state.revision);
    const record = this.#held.get(key)?.record ?? (await this.#options.records.get(state.digest));
    this.#held.set(key, new Revision(bundle, state, record));
  }

  /** The disk is looked at only when a record may have to go: first, and when one of the last has no place any more. */
  async #keepRecords(digests: ReadonlySet<string>): Promise<void> {
    const kept = this.#kept;
    this.#kept = digests;
    if (kept?.isSubsetOf(digests) !== true) await this.#options.records.keepOnly(digests);
  }

  #activate(snapshot: Snapshot, failures: Readonly<Record<string, string>>): void {
    const bundles = snapshot.bundles.map((bundle) =>
      // A bundle may be called `constructor`.
      Object.hasOwn(failures, bundle.name) ? (this.#active.get(bundle.name) ?? bundle) : bundle,
    );
    this.#failures = failures;
    this.#active = new Map(bundles.map((bundle) => [bundle.name, bundle]));
    const table = this.#tables(snapshot.epoch, bundles, this.#held);
    this.#table = table;
    for (const bundle of snapshot.bundles) {
      for (const state of bundle.revisions) {
        const revision = this.#held.get(revisionKey(bundle.name, state.revision));
        if (revision === undefined) continue;
        revision.ready = state.ready;
        revision.retryAt = state.retryAt ?? 0;
      }
    }
    this.#forget(table);
    this.#options.log.info(
      { epoch: table.epoch, bundles: bundles.length, revisions: table.revisions.length },
      'routes active',
    );
    this.#options.onTable(table);
  }

  #forget(table: RouteTable): void {
    const active = new Set(table.revisions);
    for (const [key, revision] of this.#held) {
      if (!active.has(revision) && revision.inFlight === 0) this.#held.delete(key);
    }
  }
}

function weightedRevisions(bundle: BundleState): readonly RevisionState[] {
  return bundle.revisions.filter((state) => (bundle.weights[state.revision] ?? 0) > 0);
}

function digestsOf(bundle: BundleState): readonly string[] {
  return bundle.revisions.map((state) => state.digest);
}
