import type { Broker } from '../../core/broker/broker.ts';
import type { BundleRecord } from '../../core/bundle/manifest.ts';
import type { ClusterClock } from '../../core/clock.ts';
import type { Config } from '../../core/config.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { BundleState, LogLine, RevisionState, Snapshot } from '../../core/wire/control.ts';
import type { Replies } from '../replies.ts';
import type { Revision } from '../revision.ts';
import type { EventCounts } from './event-fate.ts';
import type { EventLeases } from './event-leases.ts';
import { Forwarder } from './forwarder.ts';
import type { Incoming } from './incoming.ts';
import { LocalCalls } from './local-calls.ts';
import { QueueTrigger } from './queue.ts';
import { createTarget, type CallTarget } from './targets.ts';

export interface TriggersOptions {
  readonly broker: Broker;
  readonly replies: Replies;
  readonly clock: ClusterClock;
  readonly log: Log;
  readonly leases: EventLeases;
  readonly config: Pick<
    Config,
    'eventPrefetch' | 'eventAttempts' | 'eventBackoffCapMs' | 'drainMs' | 'maxQueueBodyBytes'
  >;
  /** A line of a bundle's own log. */
  onLog(line: Omit<LogLine, 'runner'>): void;
  /** What the document of a revision says that is not held here. */
  record(digest: string): Promise<BundleRecord>;
}

/** Trigger sources of the bundles this runner holds: one consumer of `ev.<bundle>` each, while a weighted revision is held. */
export class Triggers implements Closable {
  readonly #options: TriggersOptions;
  readonly #local: LocalCalls;
  readonly #forwarder: Forwarder;
  readonly #queues = new Map<string, QueueTrigger>();
  readonly #counts = new Map<string, EventCounts>();
  readonly #leaving = new Set<Promise<void>>();
  #bundles: ReadonlyMap<string, BundleState> = new Map();
  /** By bundle. */
  #held: ReadonlyMap<string, readonly Revision[]> = new Map();
  #closing: Promise<void> | undefined;

  constructor(options: TriggersOptions) {
    this.#options = options;
    this.#local = new LocalCalls(options.replies);
    this.#forwarder = new Forwarder(options);
  }

  /** What became of events since the start, by bundle. */
  get counts(): ReadonlyMap<string, EventCounts> {
    return this.#counts;
  }

  /** Consumes for the bundles that have a revision here which is ready and has a weight. */
  reconcile(snapshot: Snapshot, held: readonly Revision[]): void {
    if (this.#closing !== undefined) return;
    this.#bundles = new Map(snapshot.bundles.map((bundle) => [bundle.name, bundle]));
    this.#held = Map.groupBy(held, (revision) => revision.bundle);
    for (const bundle of snapshot.bundles) {
      if (this.#weighted(bundle).length > 0 && !this.#queues.has(bundle.name)) this.#add(bundle);
    }
    for (const [name, trigger] of this.#queues) {
      const bundle = this.#bundles.get(name);
      if (bundle === undefined || this.#weighted(bundle).length === 0) this.#drop(name, trigger);
    }
  }

  /** Drains every trigger. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const [name, trigger] of this.#queues) this.#drop(name, trigger);
    await Promise.all(this.#leaving);
    await this.#forwarder.close();
  }

  #add({ name, eventQueue }: BundleState): void {
    const { broker, clock, log, config } = this.#options;
    const trigger = new QueueTrigger({
      broker,
      clock,
      log,
      bundle: name,
      queue: eventQueue,
      prefetch: config.eventPrefetch,
      maxAttempts: config.eventAttempts,
      backoffCapMs: config.eventBackoffCapMs,
      // A little longer than the calls have: those that were cut short are then put back for another attempt.
      drainMs: config.drainMs + 1_000,
      counts: this.#countsOf(name),
      leases: this.#options.leases,
      onLog: (line) => this.#options.onLog({ ...line, bundle: name }),
      choose: (incoming) => this.#choose(name, incoming),
    });
    this.#queues.set(name, trigger);
  }

  #countsOf(bundle: string): EventCounts {
    const counts = this.#counts.get(bundle) ?? { done: 0, retried: 0, dead: 0 };
    this.#counts.set(bundle, counts);
    return counts;
  }

  #drop(name: string, trigger: QueueTrigger): void {
    this.#queues.delete(name);
    const leaving = trigger.close().finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
  }

  /** The revision it asks for, here or elsewhere; else one of those held here, by weight. */
  async #choose(name: string, incoming: Incoming): Promise<CallTarget> {
    const bundle = this.#bundles.get(name);
    if (bundle === undefined) throw new FuncatronError('NO_RUNNER', `bundle ${name} is not deployed any more`);
    if (incoming.alias !== 'live') {
      throw new FuncatronError('NOT_FOUND', `bundle ${name} has no alias ${JSON.stringify(incoming.alias)}`);
    }
    const wanted = incoming.revision;
    const held = this.#held.get(name)?.find((revision) => revision.revision === wanted);
    if (wanted === undefined) return this.#here(pickByWeight(this.#weighted(bundle), bundle.weights), incoming);
    if (held?.dispatch !== undefined) return this.#here(held, incoming);
    const elsewhere = bundle.revisions.find(({ revision }) => revision === wanted);
    if (elsewhere !== undefined) return this.#elsewhere(elsewhere, incoming);
    throw new FuncatronError('NOT_FOUND', `bundle ${name} has no revision ${JSON.stringify(wanted)} in use`);
  }

  #here(revision: Revision | undefined, incoming: Incoming): CallTarget {
    const dispatch = revision?.dispatch;
    const record = revision?.record;
    if (dispatch === undefined || record === undefined) {
      throw new FuncatronError('NO_RUNNER', 'this runner holds no live revision of the bundle any more');
    }
    return createTarget(record, incoming, {
      clock: this.#options.clock,
      maxBodyBytes: this.#options.config.maxQueueBodyBytes,
      isLocal: true,
      call: (call) => this.#local.run(dispatch, call),
    });
  }

  async #elsewhere({ digest, queue }: RevisionState, incoming: Incoming): Promise<CallTarget> {
    return createTarget(await this.#options.record(digest), incoming, {
      clock: this.#options.clock,
      maxBodyBytes: this.#options.config.maxQueueBodyBytes,
      isLocal: false,
      call: (call) => this.#forwarder.run(queue, call),
    });
  }

  #weighted(bundle: BundleState): readonly Revision[] {
    const held = this.#held.get(bundle.name) ?? [];
    return held.filter((revision) => revision.dispatch !== undefined && (bundle.weights[revision.revision] ?? 0) > 0);
  }
}

function pickByWeight(revisions: readonly Revision[], weights: BundleState['weights']): Revision | undefined {
  let total = 0;
  for (const { revision } of revisions) total += weights[revision] ?? 0;
  let at = Math.random() * total;
  for (const each of revisions) {
    at -= weights[each.revision] ?? 0;
    if (at < 0) return each;
  }
  return revisions.at(-1);
}
