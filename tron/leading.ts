import type { Broker } from '../core/broker/broker.ts';
import type { Repository } from '../core/bundle/repository.ts';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';
import type { Reconciler } from './reconciler.ts';
import type { Registry } from './registry.ts';
import type { Roster } from './roster.ts';

/** What a Tron works with while it leads. */
export interface Leading {
  readonly id: string;
  readonly broker: Broker;
  readonly store: Store;
  readonly repository: Repository;
  readonly registry: Registry;
  readonly roster: Roster;
  readonly reconciler: Reconciler;
  readonly limits: LeadingLimits;
  /** Aborts when this Tron no longer leads. */
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Revisions whose queue is about to be deleted, by `<bundle>@<revision>`: a change that wants one again waits. */
  readonly retiring: Map<string, Promise<void>>;
}

export interface LeadingLimits {
  readonly deployTimeoutMs: number;
  readonly memberLostMs: number;
  readonly reportMs: number;
  readonly snapshotMs: number;
}
