import type { Closable } from '../core/lifecycle.ts';
import type { HeldRevision, RevisionState, Snapshot } from '../core/wire/control.ts';
import { backoffMs } from '../core/deadline.ts';
import { deadQueue, eventQueue, RETRY_RUNGS_MS, retryQueue } from '../core/wire/topology.ts';
import { Revision, type RevisionContext } from './revision.ts';

/** A revision that did not come up is tried again after this long, doubling … */
const RETRY_MS = 5_000;
/** … up to this. */
const RETRY_CAP_MS = 300_000;

interface Held {
  revision: Revision;
  /** Attempts to load it that failed. */
  failures: number;
  /** Unix ms of the first of them. */
  failedSince: number;
  retry: NodeJS.Timeout | undefined;
  /** Unix ms. */
  retryAt: number;
}

export interface AgentOptions {
  readonly runner: string;
  readonly context: RevisionContext;
  /** Revisions came up or went, or the snapshot changed. */
  onHeld(snapshot: Snapshot, held: readonly Revision[]): void;
}

/**
 * Makes what this runner holds equal to what the newest snapshot says it should hold: level-triggered, so that lost,
 * doubled or reordered snapshots change nothing.
 */
export class Agent implements Closable {
  readonly #options: AgentOptions;
  readonly #held = new Map<string, Held>();
  readonly #leaving = new Set<Promise<void>>();
  #snapshot: Snapshot | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
  }

  get held(): readonly Revision[] {
    return [...this.#held.values()].map((held) => held.revision);
  }

  /** For the report. */
  describe(): readonly HeldRevision[] {
    return [...this.#held.values()].map(({ revision, failedSince, retry, retryAt }) => ({
      ...revision.describe(),
      ...(retry === undefined ? {} : { since: failedSince, retryAt }),
    }));
  }

  /** Takes the newest snapshot. */
  reconcile(snapshot: Snapshot): void {
    if (this.#closing !== undefined) return;
    this.#snapshot = snapshot;
    const desired = new Set<string>();
    for (const bundle of snapshot.bundles) {
      for (const state of bundle.revisions) {
        if (!state.runners.includes(this.#options.runner)) continue;
        const key = keyOf(bundle.name, state.digest);
        desired.add(key);
        if (!this.#held.has(key)) this.#load(key, bundle.name, state);
      }
    }
    for (const [key, held] of this.#held) {
      if (!desired.has(key)) this.#drop(key, held);
    }
    this.#tell();
  }

  /** A revision came up, failed, or recovered. */
  changed(): void {
    for (const [key, held] of this.#held) {
      if (held.revision.failedAt > 0 && held.retry === undefined) this.#retryLater(key, held);
    }
    this.#tell();
  }

  /** Drains everything that is held. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const [key, held] of this.#held) this.#drop(key, held);
    await Promise.all(this.#leaving);
  }

  #load(key: string, bundle: string, state: RevisionState, failures = 0, failedSince = 0): void {
    const revision = new Revision(bundle, state, this.#options.context);
    this.#held.set(key, { revision, failures, failedSince, retry: undefined, retryAt: 0 });
    void revision.open();
  }

  #drop(key: string, held: Held): void {
    clearTimeout(held.retry);
    this.#held.delete(key);
    const leaving = this.#leave(held.revision).finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
  }

  /** Queues of a bundle that is gone must not come back with the next reconnect. */
  async #leave(revision: Revision): Promise<void> {
    await revision.close();
    const { bundle } = revision;
    if (this.held.some((other) => other.bundle === bundle)) return;
    const rungs = RETRY_RUNGS_MS.map((rungMs) => retryQueue(bundle, rungMs));
    this.#options.context.broker.forget([eventQueue(bundle), deadQueue(bundle), ...rungs]);
  }

  #retryLater(key: string, held: Held): void {
    const waitMs = RETRY_MS / 2 + backoffMs(held.failures, RETRY_MS, RETRY_CAP_MS);
    held.failedSince ||= Date.now();
    held.retryAt = Date.now() + waitMs;
    held.retry = setTimeout(() => this.#retry(key, held), waitMs);
  }

  #retry(key: string, held: Held): void {
    if (this.#held.get(key) !== held) return;
    const { bundle, digest } = held.revision;
    const state = this.#snapshot?.bundles
      .find(({ name }) => name === bundle)
      ?.revisions.find((revision) => revision.digest === digest);
    this.#drop(key, held);
    if (state !== undefined) this.#load(key, bundle, state, held.failures + 1, held.failedSince);
    this.#options.context.onChange();
  }

  #tell(): void {
    if (this.#snapshot !== undefined) this.#options.onHeld(this.#snapshot, this.held);
  }
}

function keyOf(bundle: string, digest: string): string {
  return `${bundle}@${digest}`;
}
