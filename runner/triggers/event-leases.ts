import { deserialize, serialize } from 'node:v8';
import type { Broker, Delivery, OutgoingMessage } from '../../core/broker/broker.ts';
import { backoffMs } from '../../core/deadline.ts';
import { FuncatronError } from '../../core/errors.ts';
import { newId } from '../../core/id.ts';
import { delay, type Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { Store } from '../../core/store/store.ts';
import { StoreKey } from '../../core/wire/control.ts';
import { eventQueue } from '../../core/wire/topology.ts';
import { retryMessage } from './event-fate.ts';
import type { Incoming } from './incoming.ts';

/** Events in the store that one runner runs at once; more are put back for a later attempt. */
const MAX_EVENTS = 1_000;
/** Renewals that fit into a lease: two may fail. */
const RENEWALS = 3;

export interface EventLeasesOptions {
  readonly broker: Broker;
  readonly store: Store;
  readonly log: Log;
  /** How long the events of a runner that is gone wait for another one. */
  readonly leaseMs: number;
}

/** Events that run now. */
export interface RunningEvents {
  readonly running: number;
  /** Unix ms when the oldest of them started. */
  readonly since: number;
}

/** One life of this process as the owner of events. Once its lease may have run out, another runner may have them. */
interface Owner {
  readonly id: string;
  readonly events: Map<string, { readonly bundle: string; readonly revision: string; readonly since: number }>;
  isLost: boolean;
  /** When the last renewal that succeeded was asked for; `performance.now`. */
  renewedAt: number;
}

/**
 * Where events that may run for hours live while they run. RabbitMQ takes back what is not acknowledged within its
 * `consumer_timeout` (30 minutes), so such an event is written to the store, then acknowledged, then run, under a lease
 * of its runner. Keys, see `StoreKey`: the list of owners; one lease an owner, renewed three times as often as it must
 * be; one record an event: the message that brings it back as its next attempt. A runner that finds the lease of an
 * owner gone takes it over, publishes its events again, and deletes them. Nothing is lost; an owner that was cut off
 * from the store for longer than its lease, and lives, makes doubles with the same id.
 */
export class EventLeases implements Closable {
  readonly #options: EventLeasesOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #owner: Owner | undefined;
  #opening: Promise<Owner> | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: EventLeasesOptions) {
    this.#options = options;
    this.#loop = this.#keep();
  }

  /**
   * Takes an event over from its queue: it is in the store, and acknowledged. Its new delivery is acknowledged by
   * deleting it there, and `alive` while no other runner can have it.
   * @throws STORE_DOWN, OVERLOADED: it is still its queue's
   */
  async hold(event: Incoming, bundle: string, revision: string): Promise<Incoming> {
    const owner = await this.#own();
    if (owner.events.size >= MAX_EVENTS) {
      throw new FuncatronError('OVERLOADED', `${MAX_EVENTS} events that may run for hours run here already`);
    }
    const key = StoreKey.event(owner.id, newId());
    const held = { bundle, revision, since: Date.now() };
    owner.events.set(key, held);
    try {
      await this.#options.store.set(key, serialize(retryMessage(event, event.attempt + 1, eventQueue(bundle))));
    } catch (error) {
      owner.events.delete(key);
      throw error;
    }
    event.delivery.ack();
    return { ...event, delivery: this.#delivery(event.delivery, owner, key) };
  }

  /** Events of a revision that run here. */
  running(bundle: string, revision: string): RunningEvents | undefined {
    let running = 0;
    let since = Infinity;
    for (const event of this.#owner?.events.values() ?? []) {
      if (event.bundle !== bundle || event.revision !== revision) continue;
      running++;
      since = Math.min(since, event.since);
    }
    return running === 0 ? undefined : { running, since };
  }

  /** Stops renewing: what still runs, other runners bring back. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    const owner = await this.#opening?.catch(() => undefined);
    if (owner === undefined) return;
    owner.isLost = true;
    try {
      if (owner.events.size === 0) await this.#editOwners((owners) => owners.filter((id) => id !== owner.id));
      await this.#options.store.releaseLease(StoreKey.eventLease(owner.id), owner.id);
    } catch (error) {
      this.#options.log.debug({ err: error }, 'cannot give the lease of events up; it runs out');
    }
  }

  #delivery(from: Delivery, owner: Owner, key: string): Delivery {
    return {
      body: from.body,
      exchange: from.exchange,
      routingKey: from.routingKey,
      properties: from.properties,
      redelivered: false,
      get alive() {
        return !owner.isLost;
      },
      ack: () => void this.#forget(owner, key),
      // What cannot be settled stays with the owner's lease, and comes back when that ends.
      reject: () => void owner.events.delete(key),
    };
  }

  /** The event is settled: its record goes, however often that takes. */
  async #forget(owner: Owner, key: string): Promise<void> {
    for (let round = 0; !owner.isLost; round++) {
      try {
        await this.#options.store.delete(key);
        break;
      } catch {
        await delay(backoffMs(round), this.#stop.signal);
        if (this.#stop.signal.aborted) break; // It runs once more elsewhere: at least once is the promise.
      }
    }
    owner.events.delete(key);
  }

  #own(): Promise<Owner> {
    if (this.#owner?.isLost === true) this.#opening = undefined;
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #open(): Promise<Owner> {
    const { store, leaseMs } = this.#options;
    const owner: Owner = { id: newId(), events: new Map(), isLost: false, renewedAt: performance.now() };
    // The lease first: an owner in the list without one counts as gone.
    await store.acquireLease(StoreKey.eventLease(owner.id), owner.id, leaseMs);
    await this.#editOwners((owners) => [...owners, owner.id]);
    this.#owner = owner;
    return owner;
  }

  async #keep(): Promise<void> {
    const { leaseMs, log } = this.#options;
    const stepMs = leaseMs / RENEWALS;
    // While the store was away nobody could renew: the others get a whole lease of time before they count as gone.
    let quietSince = performance.now();
    while (!this.#stop.signal.aborted) {
      await delay(stepMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      try {
        await this.#renew();
        if (performance.now() - quietSince >= leaseMs) await this.#recover();
      } catch (error) {
        quietSince = performance.now();
        log.debug({ err: error }, 'cannot keep the leases of events now, trying again');
      }
    }
  }

  async #renew(): Promise<void> {
    const owner = this.#owner;
    if (owner === undefined || owner.isLost) return;
    const { store, leaseMs, log } = this.#options;
    const askedAt = performance.now();
    const isOurs = await store.acquireLease(StoreKey.eventLease(owner.id), owner.id, leaseMs);
    if (isOurs && askedAt - owner.renewedAt < leaseMs) {
      owner.renewedAt = askedAt;
      return;
    }
    owner.isLost = true;
    log.warn({ events: owner.events.size }, 'the lease of running events ran out: other runners may run them again');
    // Unless they have done so already, they can start at once.
    if (isOurs) await store.releaseLease(StoreKey.eventLease(owner.id), owner.id);
  }

  /** Brings back the events of owners that are gone. */
  async #recover(): Promise<void> {
    const { store, leaseMs, log } = this.#options;
    const taker = newId();
    for (const owner of await this.#owners()) {
      if (owner === this.#owner?.id && !this.#owner.isLost) continue;
      const lease = StoreKey.eventLease(owner);
      if (!(await store.acquireLease(lease, taker, leaseMs))) continue;
      const keys = await store.keys(StoreKey.event(owner, ''));
      let isDone = true;
      for (const key of keys) isDone = (await this.#bringBack(key)) && isDone;
      if (keys.length > 0) log.warn({ events: keys.length, isDone }, 'a runner is gone: its events run again');
      if (isDone) await this.#editOwners((owners) => owners.filter((id) => id !== owner));
      await store.releaseLease(lease, taker);
    }
  }

  /** Whether it is back in its queue, or no queue is there for it any more. */
  async #bringBack(key: string): Promise<boolean> {
    const { store, broker, log } = this.#options;
    const record = await store.get(key);
    if (record === undefined) return true;
    const message = deserialize(record) as OutgoingMessage;
    const outcome = await broker.publish(message);
    if (outcome === 'returned') log.warn({ queue: message.routingKey }, 'dropped an event whose bundle is gone');
    else if (outcome !== 'accepted') return false;
    await store.delete(key);
    return true;
  }

  async #owners(): Promise<readonly string[]> {
    const text = await this.#options.store.get(StoreKey.eventOwners);
    return text === undefined ? [] : (JSON.parse(text.toString()) as string[]);
  }

  async #editOwners(edit: (owners: readonly string[]) => readonly string[]): Promise<void> {
    const { store } = this.#options;
    for (let round = 0; ; round++) {
      const text = (await store.get(StoreKey.eventOwners))?.toString();
      const next = JSON.stringify(edit(text === undefined ? [] : (JSON.parse(text) as string[])));
      if (await store.compareAndSet(StoreKey.eventOwners, text, next)) return;
      await delay(backoffMs(round, 5, 200));
    }
  }
}
