import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import type { Broker } from './broker/broker.ts';
import { openListener, type Listener } from './broker/listener.ts';
import type { ClusterClock } from './clock.ts';
import { delay, type Closable } from './lifecycle.ts';
import type { Log } from './log.ts';
import type { Store } from './store/store.ts';
import { VERSION } from './version.ts';
import { compareEpochs, FIRST_EPOCH, StoreKey, type Epoch, type Report, type Snapshot } from './wire/control.ts';
import { parseSnapshot } from './wire/read-control.ts';
import { listenerQueue, listenerTopology, REPORT_QUEUE, reportTopology, stateExchange } from './wire/topology.ts';

/** How a runner or a frontend belongs to the cluster: it hears the desired state and says what it holds. */
export interface Membership extends Closable {
  /** The newest snapshot heard so far, or read at start from the store or the cache file. */
  readonly snapshot: Snapshot | undefined;
  /** Calls back for the snapshot that is there, and for every newer epoch; returns how to stop. */
  onSnapshot(listener: (snapshot: Snapshot) => void): () => void;
  /** Sends a report at the end of this turn instead of at the next interval. */
  reportSoon(): void;
}

export interface MembershipOptions {
  readonly broker: Broker;
  readonly store: Store;
  /** Where the last snapshot is kept, so that a start without Tron and store still serves. */
  readonly cacheFile: string;
  readonly id: string;
  readonly reportMs: number;
  readonly clock: ClusterClock;
  readonly log: Log;
  /** The report as of now. */
  describe(): Report;
}

/** What reports of every role begin with; `epoch` is the newest that is acted on, `startedAt` unix ms. */
export function memberReport(member: Pick<Report, 'id' | 'startedAt' | 'stopping'> & { epoch: Epoch | undefined }) {
  return {
    ...member,
    v: 1,
    version: VERSION,
    hostname: hostname(),
    pid: process.pid,
    sentAt: Date.now(),
    epoch: member.epoch ?? FIRST_EPOCH,
  } as const;
}

/**
 * Joins the cluster. Settles once the last known snapshot was looked for (store, else cache file); it does not wait
 * for the broker, which may come later. `close` sends a last report (with `stopping` as `describe` says it).
 */
export async function openMembership(options: MembershipOptions): Promise<Membership> {
  const membership = new OpenMembership(options);
  await membership.start();
  return membership;
}

type Found = readonly [snapshot: Snapshot, body: Buffer];

class OpenMembership implements Membership {
  readonly #options: MembershipOptions;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  readonly #stop = new AbortController();
  #snapshot: Snapshot | undefined;
  #reportDue = false;
  #saving: Promise<void> = Promise.resolve();
  #listener: Listener | undefined;
  #reporting: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  get snapshot(): Snapshot | undefined {
    return this.#snapshot;
  }

  async start(): Promise<void> {
    const last = (await this.#fromStore()) ?? (await this.#fromCache());
    if (last !== undefined) this.#take(...last);
    const { broker, id, log } = this.#options;
    const state = listenerTopology(stateExchange, id, [''], 100);
    this.#listener = openListener({
      broker,
      log,
      queue: listenerQueue(stateExchange.name, id),
      topology: { ...state, queues: [...(state.queues ?? []), ...(reportTopology.queues ?? [])] },
      isOwn: true,
      onDelivery: (delivery) => this.#hear(delivery.body),
    });
    void this.#listener.opened.then(() => this.reportSoon());
    this.#reporting = this.#reportLoop();
  }

  onSnapshot(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener);
    if (this.#snapshot !== undefined) listener(this.#snapshot);
    return () => this.#listeners.delete(listener);
  }

  reportSoon(): void {
    if (this.#reportDue || this.#stop.signal.aborted) return;
    this.#reportDue = true;
    setImmediate(() => {
      this.#reportDue = false;
      void this.#report();
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    await this.#report();
    await this.#listener?.close();
    await this.#reporting;
    await this.#saving;
  }

  #hear(body: Buffer): void {
    const receivedAt = Date.now();
    const snapshot = parseSnapshot(body);
    if (snapshot === undefined) {
      this.#options.log.warn({ bytes: body.length }, 'a message on the state exchange is no snapshot of this version');
      return;
    }
    this.#options.clock.observe(snapshot.sentAt, receivedAt);
    this.#take(snapshot, body);
  }

  /** An older or equal epoch changes nothing: snapshots are states, and they arrive doubled and out of order. */
  #take(snapshot: Snapshot, body: Buffer): void {
    if (this.#snapshot !== undefined && compareEpochs(snapshot.epoch, this.#snapshot.epoch) <= 0) return;
    this.#snapshot = snapshot;
    for (const listener of this.#listeners) listener(snapshot);
    this.#saving = this.#saving.then(() => this.#save(snapshot, body));
    this.reportSoon();
  }

  /** As it came: with 1 000 bundles, making the text again takes milliseconds. */
  async #save(snapshot: Snapshot, body: Buffer): Promise<void> {
    if (snapshot !== this.#snapshot) return;
    const { cacheFile, log } = this.#options;
    try {
      await mkdir(dirname(cacheFile), { recursive: true });
      await writeFile(`${cacheFile}.new`, body, { mode: 0o600 });
      await rename(`${cacheFile}.new`, cacheFile);
    } catch (error) {
      log.warn({ err: error, cacheFile }, 'cannot keep the snapshot; a start without tron and store would not serve');
    }
  }

  async #fromStore(): Promise<Found | undefined> {
    try {
      const body = await this.#options.store.get(StoreKey.snapshot);
      return body === undefined ? undefined : found(body);
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the store cannot be reached, starting from the cached snapshot');
      return undefined;
    }
  }

  async #fromCache(): Promise<Found | undefined> {
    try {
      return found(await readFile(this.#options.cacheFile));
    } catch {
      return undefined; // No cache yet: the first snapshot comes from Tron.
    }
  }

  async #reportLoop(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#report();
      await delay(this.#options.reportMs, signal);
    }
  }

  async #report(): Promise<void> {
    const { broker } = this.#options;
    if (broker.state !== 'ready' && broker.state !== 'blocked') return;
    // An outcome other than accepted needs nothing: the next report says it all again.
    await broker.publish({
      exchange: '',
      routingKey: REPORT_QUEUE,
      body: Buffer.from(JSON.stringify(this.#options.describe())),
      properties: { contentType: 'application/json', type: 'report' },
    });
  }
}

function found(body: Buffer): Found | undefined {
  const snapshot = parseSnapshot(body);
  return snapshot === undefined ? undefined : [snapshot, body];
}
