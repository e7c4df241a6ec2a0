import { compareEpochs, type Epoch, type Snapshot } from '../core/wire/control.ts';
import { callQueue } from '../core/wire/topology.ts';
import { heldRevisions } from './desired.ts';
import type { Leading } from './leading.ts';
import { revisionKey } from './planner.ts';
import { isWanted, retireRevision } from './bundle-entry.ts';
import { findBundle, putBundle } from './registry.ts';
import { watch } from './watch.ts';

/** A call lives 15 minutes at most, so what still counts calls after this has lost count. */
const LONGEST_DRAIN_MS = 16 * 60_000;

/**
 * Lets go of drained revisions: once every member acts on the snapshot that says `draining`, no frontend waits for a
 * call of it, no runner has one in flight and its queue is empty, it leaves the snapshot; once no runner holds it, its
 * queue goes.
 */
export class Retirement {
  readonly #leading: Leading;
  /** The first epoch that says a revision drains, by `<bundle>@<revision>`. */
  readonly #since = new Map<string, Epoch>();
  #snapshot: Snapshot | undefined;
  /** Bundle and revision of those that drain in it. */
  #draining: readonly (readonly [string, string])[] = [];

  constructor(leading: Leading) {
    this.#leading = leading;
  }

  /** Looks at every draining revision; called after every report. */
  look(): void {
    const { snapshot } = this.#leading.reconciler;
    if (snapshot === undefined) return;
    if (snapshot !== this.#snapshot) {
      this.#snapshot = snapshot;
      this.#draining = drainingOf(snapshot);
    }
    const draining = this.#draining;
    const keys = new Set(draining.map(([bundle, revision]) => revisionKey(bundle, revision)));
    for (const key of this.#since.keys()) if (!keys.has(key)) this.#since.delete(key);
    for (const [bundle, revision] of draining) {
      const key = revisionKey(bundle, revision);
      const since = this.#since.get(key) ?? snapshot.epoch;
      this.#since.set(key, since);
      if (!this.#leading.retiring.has(key) && this.#isIdle(bundle, revision, since)) this.#start(bundle, revision, key);
    }
  }

  #start(bundle: string, revision: string, key: string): void {
    const { retiring, log } = this.#leading;
    const retired = this.#retire(bundle, revision)
      .catch((error: unknown) => {
        // Looked at again with the next report, here or by the next leader; an undeleted queue expires by itself.
        log.warn({ err: error, bundle, revision }, 'cannot retire the revision yet');
      })
      .finally(() => retiring.delete(key));
    retiring.set(key, retired);
  }

  #isIdle(bundle: string, revision: string, since: Epoch): boolean {
    const { roster, registry } = this.#leading;
    if (!roster.isSettled) return false;
    const startedAt = findBundle(registry.state, bundle)?.draining[revision];
    if (startedAt !== undefined && Date.now() - startedAt > LONGEST_DRAIN_MS) return true;
    const key = revisionKey(bundle, revision);
    return (
      roster.frontends.every((report) => compareEpochs(report.epoch, since) >= 0 && !report.inFlight[key]) &&
      roster.runners.every((report) => {
        const held = report.revisions.find((entry) => entry.bundle === bundle && entry.revision === revision);
        return held === undefined || (compareEpochs(report.epoch, since) >= 0 && held.inFlight === 0);
      })
    );
  }

  async #retire(bundle: string, revision: string): Promise<void> {
    const { broker, registry, reconciler, roster, signal, limits, log } = this.#leading;
    const queue = callQueue(bundle, revision).name;
    if (((await broker.probe(queue))?.messages ?? 0) > 0) return;
    await registry.update((state) => {
      const entry = findBundle(state, bundle);
      if (entry === undefined || !(revision in entry.draining) || isWanted(entry, revision)) return state;
      return putBundle(state, retireRevision(entry, revision));
    });
    await reconciler.apply();
    const isHeld = (): boolean =>
      roster.runners.some(
        (report) =>
          !roster.isPresumed(report.id) &&
          report.revisions.some((entry) => entry.bundle === bundle && entry.revision === revision),
      );
    await watch(() => this.#isDesired(bundle, revision) || !isHeld(), {
      sources: [(listener) => roster.onChange(listener), (listener) => registry.onUpdate(listener)],
      timeoutMs: limits.memberLostMs,
      signal,
    });
    if (this.#isDesired(bundle, revision)) return;
    await broker.deleteQueue(queue);
    log.info({ bundle, revision }, 'the old revision is retired');
  }

  /** Whether some runner should hold the revision, be it to drain it: nothing of it may be deleted. */
  #isDesired(bundle: string, revision: string): boolean {
    const entry = findBundle(this.#leading.registry.state, bundle);
    return entry !== undefined && heldRevisions(entry).some((held) => held.revision === revision);
  }
}

function drainingOf(snapshot: Snapshot): readonly (readonly [string, string])[] {
  return snapshot.bundles.flatMap((bundle) =>
    bundle.revisions.flatMap(({ revision, phase }) => (phase === 'draining' ? [[bundle.name, revision] as const] : [])),
  );
}
