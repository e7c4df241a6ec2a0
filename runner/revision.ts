import { prefetchOf, type BundleRecord, type Manifest } from '../core/bundle/manifest.ts';
import type { Broker } from '../core/broker/broker.ts';
import type { ClusterClock } from '../core/clock.ts';
import { backoffMs, type TimerWheel } from '../core/deadline.ts';
import { toFuncatronError, type FuncatronError } from '../core/errors.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { HeldRevision, RevisionState } from '../core/wire/control.ts';
import { callQueue, eventTopology } from '../core/wire/topology.ts';
import type { LoadedBundle } from './bundle-cache.ts';
import { CallCounts } from './call-counts.ts';
import type { CancelledIds } from './cancels.ts';
import type { DirectListener } from './direct/listener.ts';
import { Dispatch } from './dispatch.ts';
import { Intake } from './intake.ts';
import type { WorkerEvents, WorkerSpec } from './isolate/isolate.ts';
import type { Kinds } from './isolate/kinds.ts';
import type { Replies } from './replies.ts';
import type { GuestServices } from './services/guest-services.ts';
import { withScopes } from './services/scoped-isolate.ts';
import type { WorkerBudget } from './worker-budget.ts';
import type { Quarantine } from './worker-pool.ts';
import { workerSpecOf } from './worker-spec.ts';

/** What all revisions of a runner share. */
export interface RevisionContext {
  readonly broker: Broker;
  readonly kinds: Pick<Kinds, 'of'>;
  readonly replies: Replies;
  readonly listener: DirectListener;
  /** From this length on bodies go direct. */
  readonly directBytes: number;
  readonly cancelled: CancelledIds;
  readonly budget: WorkerBudget;
  readonly wheel: TimerWheel;
  readonly clock: ClusterClock;
  readonly log: Log;
  readonly slotTimeoutMs: number;
  readonly maxPrefetch: number;
  readonly drainMs: number;
  load(digest: string): Promise<LoadedBundle>;
  onLog(bundle: string, revision: string, line: Parameters<WorkerEvents['onLog']>[0]): void;
  /** @throws DEPLOY_FAILED naming the secrets this runner does not have */
  services(manifest: Manifest): Promise<GuestServices>;
  /** What `describe` says has changed. */
  onChange(): void;
}

interface Opened {
  readonly dispatch: Dispatch;
  readonly record: BundleRecord;
  readonly counts: CallCounts;
  readonly services: GuestServices;
}

/**
 * One revision this runner holds: its code, its workers, its consumer.
 *
 * `loading` → `ready` ⇄ `failed` (no worker stays alive: it consumes nothing until one does) → closed;
 * `loading` → `failed` (it did not come up) → closed.
 */
export class Revision implements Closable {
  readonly bundle: string;
  readonly digest: string;
  readonly revision: string;
  readonly #queue: string;
  readonly #workers: RevisionState['workers'];
  readonly #context: RevisionContext;
  readonly #log: Log;
  readonly #stop = new AbortController();
  #opened: Opened | undefined;
  #intake: Intake | undefined;
  /** It follows the workers, one step at a time. */
  #adjusting: Promise<void> = Promise.resolve();
  #isUp = false;
  #failure: FuncatronError | undefined;
  #failedAt = 0;
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(bundle: string, state: RevisionState, context: RevisionContext) {
    this.bundle = bundle;
    this.digest = state.digest;
    this.revision = state.revision;
    this.#queue = state.queue;
    this.#workers = state.workers;
    this.#context = context;
    this.#log = context.log.child({ bundle, revision: state.revision });
  }

  /** There while it takes calls. */
  get dispatch(): Dispatch | undefined {
    return this.state === 'ready' ? this.#opened?.dispatch : undefined;
  }

  get record(): BundleRecord | undefined {
    return this.#opened?.record;
  }

  get counts(): CallCounts | undefined {
    return this.#opened?.counts;
  }

  get workers(): number {
    return this.#opened?.dispatch.host.workers ?? 0;
  }

  get restarts(): number {
    return this.#opened?.dispatch.host.restarts ?? 0;
  }

  get inFlight(): number {
    return this.#opened?.dispatch.inFlight ?? 0;
  }

  get exchanges(): number {
    return this.#opened?.dispatch.exchanges ?? 0;
  }

  get #quarantine(): Quarantine | undefined {
    return this.#opened?.dispatch.host.quarantine;
  }

  get state(): HeldRevision['state'] {
    if (this.#failure !== undefined || this.#quarantine !== undefined) return 'failed';
    return this.#intake === undefined ? 'loading' : 'ready';
  }

  /** When it did not come up: `performance.now()` of that; 0 otherwise. */
  get failedAt(): number {
    return this.#failedAt;
  }

  describe(): HeldRevision {
    const quarantine = this.#quarantine;
    const error = this.#failure ?? quarantine?.error;
    return {
      bundle: this.bundle,
      revision: this.revision,
      state: this.state,
      workers: this.workers,
      ...(this.#opened === undefined ? {} : { bounds: this.#boundsOf(this.#opened.record) }),
      restarts: this.restarts,
      inFlight: this.inFlight,
      ...(error === undefined ? {} : { error: errorOf(error) }),
      ...(quarantine === undefined ? {} : { since: quarantine.since, retryAt: quarantine.retryAt }),
    };
  }

  /** Loads, starts a worker, declares the queues and consumes. Never rejects: `describe` says how it went. */
  open(): Promise<void> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  /** Stops taking calls, gives back those not started, finishes the others, ends the workers. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #open(): Promise<void> {
    const context = this.#context;
    const startedAt = performance.now();
    try {
      const bundle = await context.load(this.digest);
      const { record } = bundle;
      const counts = new CallCounts(record.api.operations.map((operation) => operation.operationId));
      const services = await context.services(record.manifest);
      const dispatch = this.#createDispatch(
        bundle,
        counts,
        services,
        workerSpecOf(bundle, services.secrets, context.directBytes),
      );
      this.#opened = { dispatch, record, counts, services };
      await Promise.all([dispatch.host.open(), this.#declare()]);
      this.#isUp = true;
      await this.#adjust();
      if (this.#intake !== undefined) this.#log.info({ ms: since(startedAt) }, 'revision ready');
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#failure = toFuncatronError(error, 'DEPLOY_FAILED');
      this.#failedAt = performance.now();
      this.#log.warn({ err: error }, 'revision did not come up');
    }
    context.onChange();
  }

  async #close(): Promise<void> {
    const startedAt = performance.now();
    this.#stop.abort();
    const { broker, drainMs } = this.#context;
    await this.#adjust();
    await this.#opened?.dispatch.drain(drainMs);
    await this.#opening;
    // It may only have been opened meanwhile.
    await this.#opened?.dispatch.host.close();
    await this.#opened?.services.close();
    broker.forget([this.#queue]);
    this.#log.info({ ms: since(startedAt) }, 'revision drained');
  }

  #createDispatch(bundle: LoadedBundle, counts: CallCounts, services: GuestServices, spec: WorkerSpec): Dispatch {
    const { record, codeCache } = bundle;
    const { broker, replies, listener, cancelled, clock, kinds, slotTimeoutMs, budget, wheel } = this.#context;
    const { runtime, concurrency } = record.manifest;
    const bounds = this.#boundsOf(record);
    return new Dispatch({
      credit: () => this.#intake?.credit ?? Infinity,
      // A plain Python handler waits in its event loop; those of an async bundle do not.
      lendsSlots: runtime !== 'python' || concurrency > 1,
      broker,
      queue: this.#queue,
      replies,
      listener,
      cancelled,
      clock,
      counts,
      log: this.#log,
      host: {
        kind: services.vends ? withScopes(kinds.of(record.manifest), services) : kinds.of(record.manifest),
        spec,
        codeCache,
        workersMax: bounds.max,
        // A program writes one answer at a time, and a plain generator blocks its process.
        bodiesTakeSlots: runtime === 'http' || runtime === 'default' || (runtime === 'python' && concurrency === 1),
        workersMin: bounds.min,
        // Bundles deployed by an older version name none.
        idleTimeoutMs: (record.manifest.idleTimeoutS ?? 30) * 1000,
        slotTimeoutMs,
        budget,
        wheel,
      },
      events: {
        onLog: (line) => this.#context.onLog(this.bundle, this.revision, line),
        onOperation: (request, signal) => services.run(request, signal),
        onChange: () => {
          this.#adjust().catch((error: unknown) => this.#log.error({ err: error }, 'cannot consume the call queue'));
        },
      },
    });
  }

  #boundsOf({ manifest }: BundleRecord): { readonly min: number; readonly max: number } {
    const { min, max } = this.#workers ?? manifest.workers;
    return { min, max: Math.max(1, max) };
  }

  async #declare(): Promise<void> {
    const { broker } = this.#context;
    await this.#whenReady(async () => {
      await broker.declare({ queues: [{ ...callQueue(this.bundle, this.revision), name: this.#queue }] });
      await broker.declare(eventTopology(this.bundle));
    });
  }

  /** Consumes while there are workers and calls are wanted: in quarantine other runners shall have them. */
  #adjust(): Promise<void> {
    const step = this.#adjusting.then(() => this.#adjustConsumer());
    this.#adjusting = step.catch(() => undefined); // Whoever asked for the step hears of it.
    return step;
  }

  async #adjustConsumer(): Promise<void> {
    if (this.#opened === undefined || !this.#isUp) return;
    const { dispatch, record } = this.#opened;
    const wantsCalls = dispatch.host.quarantine === undefined && !this.#stop.signal.aborted;
    if (wantsCalls && this.#intake === undefined) await this.#consume(dispatch, record);
    if (!wantsCalls && this.#intake !== undefined) {
      const intake = this.#intake;
      this.#intake = undefined;
      await intake.close();
      dispatch.giveBackWaiting();
    }
    this.#context.onChange();
  }

  async #consume(dispatch: Dispatch, record: BundleRecord): Promise<void> {
    const { broker, maxPrefetch, wheel } = this.#context;
    const { concurrency } = record.manifest;
    const workers = this.#boundsOf(record);
    const intake = new Intake({
      broker,
      queue: this.#queue,
      least: prefetchOf({ concurrency, workers }, maxPrefetch),
      most: Math.min(maxPrefetch, workers.max * concurrency),
      wheel,
      log: this.#log,
      holding: () => dispatch.holding,
      onDelivery: (delivery) => dispatch.onDelivery(delivery),
    });
    await this.#whenReady(() => intake.open());
    if (intake.credit > 0) this.#intake = intake;
  }

  /** Tries until the broker takes it. Other errors than its absence end the attempt. */
  async #whenReady(step: () => Promise<void>): Promise<void> {
    for (let attempt = 0; await this.#context.broker.ready(this.#stop.signal); attempt++) {
      try {
        return await step();
      } catch (error) {
        if (toFuncatronError(error).code !== 'BROKER_DOWN') throw error;
        await delay(backoffMs(attempt), this.#stop.signal);
      }
    }
  }
}

function errorOf({ code, message, data: { hint } }: FuncatronError): NonNullable<HeldRevision['error']> {
  return { code, message, ...(hint === undefined ? {} : { hint }) };
}

function since(startedAt: number): number {
  return Math.round(performance.now() - startedAt);
}
