import type { Broker } from '../core/broker/broker.ts';
import type { Log } from '../core/log.ts';
import { compareEpochs, type Epoch, type Snapshot } from '../core/wire/control.ts';
import { STATE_EXCHANGE } from '../core/wire/topology.ts';
import { bundlesJson } from './bundles-json.ts';
import { type Desired, DesiredState } from './desired.ts';
import type { FencedKey } from './fenced-key.ts';
import type { Registry } from './registry.ts';
import type { Roster } from './roster.ts';

export interface ReconcilerOptions {
  readonly registry: Registry;
  readonly roster: Roster;
  readonly broker: Broker;
  /** `StoreKey.snapshot`, loaded. */
  readonly key: FencedKey;
  /** Id of this Tron. */
  readonly id: string;
  /** Members hear a snapshot at least this often. */
  readonly resendMs: number;
  readonly log: Log;
}

/**
 * Makes the snapshot follow registry and roster: whenever the desired state differs from the last one, it is stored
 * and published under the next epoch.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  #term: number;
  #n = 0;
  readonly #desiredState = new DesiredState();
  #snapshot: Snapshot | undefined;
  /** Of its bundles, as JSON. */
  #texts: readonly string[] = [];
  /** What the snapshot says. */
  #desired: Desired | undefined;
  #running: Promise<Epoch> | undefined;
  #next: Promise<Epoch> | undefined;
  #publishedAt = 0;

  constructor(options: ReconcilerOptions, term: number) {
    this.#options = options;
    this.#term = term;
  }

  get epoch(): Epoch {
    return `${this.#term}.${this.#n}`;
  }

  get snapshot(): Snapshot | undefined {
    return this.#snapshot;
  }

  /**
   * Settles with the epoch under which the state of this moment (or a later one) is stored and published. Calls made
   * while one is under way share the next.
   * @throws NO_LEADER
   */
  apply(): Promise<Epoch> {
    this.#next ??= this.#after(this.#running);
    return this.#next;
  }

  /** Sends the snapshot again when nobody has heard one for `resendMs`, or as soon as `staleMs` with stale members. */
  resend(staleMs: number): void {
    if (this.#snapshot === undefined) return;
    const { roster, resendMs } = this.#options;
    const silentMs = performance.now() - this.#publishedAt;
    const { epoch } = this.#snapshot;
    const isStale = [...roster.runners, ...roster.frontends].some((report) => compareEpochs(report.epoch, epoch) < 0);
    if (silentMs >= resendMs || (isStale && silentMs >= staleMs)) this.#publish(this.#snapshot, this.#texts);
  }

  /** Goes to a higher term: a member has heard of one that is newer than ours. */
  raiseTerm(term: number): void {
    this.#term = term;
    this.#n = 0;
    this.#desired = undefined;
  }

  async #after(running: Promise<Epoch> | undefined): Promise<Epoch> {
    // Whoever waited for that run hears of its failure.
    await running?.catch(() => {});
    this.#next = undefined;
    this.#running = this.#run();
    return this.#running;
  }

  async #run(): Promise<Epoch> {
    const { registry, roster, key, id } = this.#options;
    const desired = this.#desiredState.of(registry.state, roster.runners);
    if (desired === this.#desired) return this.epoch;
    this.#n++;
    const { bundles, texts } = desired;
    const head = { v: 1, epoch: this.epoch, sentAt: Date.now(), leader: id } as const;
    await key.write(bundlesJson(head, texts));
    // A term raised meanwhile needs a snapshot of its own.
    if (head.epoch === this.epoch) this.#desired = desired;
    this.#snapshot = { ...head, bundles };
    this.#texts = texts;
    this.#publish(this.#snapshot, texts);
    return head.epoch;
  }

  #publish(snapshot: Snapshot, texts: readonly string[]): void {
    const { broker, log } = this.#options;
    this.#publishedAt = performance.now();
    const { bundles: _bundles, ...head } = snapshot;
    const body = Buffer.from(bundlesJson({ ...head, sentAt: Date.now() }, texts));
    const properties = { contentType: 'application/json', type: 'snapshot' };
    // An outcome other than accepted needs nothing: it is sent again to whoever reports an older epoch.
    void broker.publish({ exchange: STATE_EXCHANGE, routingKey: '', body, properties }).then((outcome) => {
      log.debug({ epoch: snapshot.epoch, outcome }, 'published a snapshot');
    });
  }
}
