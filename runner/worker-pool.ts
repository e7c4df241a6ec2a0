import { backoffMs } from '../core/deadline.ts';
import { FuncatronError, toFuncatronError } from '../core/errors.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { HeldCall } from './call.ts';
import type { CodeCache } from './code-cache.ts';
import { watchHeartbeat } from './heartbeat.ts';
import { HostedWorker } from './hosted-worker.ts';
import { IdleWatch } from './idle-watch.ts';
import type { IsolateKind, WorkerEvents, WorkerExit, WorkerSpec } from './isolate/isolate.ts';
import type { Lender, WorkerBudget } from './worker-budget.ts';

/** A worker that lived this long did not crash at once: the count of crashes begins anew. */
const STEADY_MS = 10_000;
/** Crashes in a row that are answered with a new worker at once. */
const QUICK_RESTARTS = 3;
/** Crashes in a row after which a revision without workers is in quarantine. */
const QUARANTINE_CRASHES = 5;
/** How long a worker waits for room on its runner: the first one of a revision, and others, which calls wait for. */
const FIRST_ROOM_MS = 20_000;
const ROOM_MS = 2_000;
/** The wait before the first later worker, doubling up to the cap: half of it for certain, half of it by chance. */
const RESTART_MS = 400;
const RESTART_CAP_MS = 30_000;

/** Why no worker of a revision stays alive, while that is so. */
export interface Quarantine {
  readonly error: FuncatronError;
  /** Unix ms of the first crash that led into it; it stays when a worker came up meanwhile and crashed again. */
  readonly since: number;
  /** Unix ms at which the next worker is started. */
  readonly retryAt: number;
}

/** What a pool tells its host. */
export interface PoolEvents extends Pick<WorkerEvents, 'onLog' | 'onOperation'> {
  onReplies(worker: HostedWorker, tag: number, envelope: Buffer): void;
  onStream(worker: HostedWorker, kind: number, payload: Buffer): void;
  /** The earliest deadline it is watched for has come. */
  onDeadline(worker: HostedWorker): void;
  /** It takes calls. */
  onReady(): void;
  /** It is gone, with these calls. */
  onGone(worker: HostedWorker, calls: readonly HeldCall[], exit: WorkerExit): void;
  /** Whether calls wait for a worker. */
  isWanted(): boolean;
  /** Workers came or went, or the revision got into or out of quarantine. */
  onChange(): void;
}

export interface PoolOptions {
  readonly kind: IsolateKind;
  readonly spec: WorkerSpec;
  readonly codeCache?: CodeCache | undefined;
  readonly workersMax: number;
  /** Whether what makes the body of an answer can do nothing else meanwhile; default: it can. */
  readonly bodiesTakeSlots?: boolean;
  /** Kept running; 0 = none while there are no calls. */
  readonly workersMin: number;
  /** A worker above the minimum that has run nothing for so long ends. */
  readonly idleTimeoutMs: number;
  readonly budget: WorkerBudget;
  readonly log: Log;
}

/**
 * The workers of one revision: started on demand, replaced when they die or are retired, ended when they are idle for
 * long, down to the minimum. After several crashes in a row each replacement waits longer; while none is left and that
 * goes on, the revision is in `quarantine`. A worker that had answered and died with a call begins the row anew: that
 * call is to blame, and the others of its bundle shall not wait for it.
 */
export class WorkerPool implements Closable, Lender {
  readonly #options: PoolOptions;
  readonly #events: PoolEvents;
  readonly #workers = new Set<HostedWorker>();
  readonly #stop = new AbortController();
  readonly #idle: IdleWatch;
  #crashes = 0;
  #isStarting = false;
  #closing: Promise<void> | undefined;
  #failure: FuncatronError | undefined;
  #failedSince = 0;
  #retryAt = 0;
  /** Workers that were started because one before them died or was retired. */
  restarts = 0;

  constructor(options: PoolOptions, events: PoolEvents) {
    this.#options = options;
    this.#events = events;
    const { idleTimeoutMs, workersMin } = options;
    this.#idle = new IdleWatch({
      idleTimeoutMs,
      workersMin,
      workers: this.#workers,
      end: (worker) => this.#letGo(worker),
    });
    options.budget.add(this);
  }

  /** Those that start, serve, or retire. */
  get all(): ReadonlySet<HostedWorker> {
    return this.#workers;
  }

  get quarantine(): Quarantine | undefined {
    const error = this.#failure;
    return error === undefined ? undefined : { error, since: this.#failedSince, retryAt: this.#retryAt };
  }

  /** How many take calls. */
  get ready(): number {
    let count = 0;
    for (const worker of this.#workers) if (worker.state === 'ready') count++;
    return count;
  }

  /** Starts the first worker. @throws DEPLOY_FAILED with the func's own error; WEAK_ISOLATION; OVERLOADED */
  async open(): Promise<void> {
    await this.#start(FIRST_ROOM_MS);
    if (this.#lacks()) void this.startAnother();
  }

  /** Starts one more worker when there is room for it and none is starting; a failure leads to the next try, later. */
  async startAnother(): Promise<void> {
    const { workersMax, budget } = this.#options;
    const { ready } = this;
    if (this.#isStarting || this.#stop.signal.aborted || ready >= workersMax) return;
    if (ready > 0 && budget.isSpent) return;
    this.#isStarting = true;
    const waitMs = this.#restartDelayMs();
    this.#retryAt = Date.now() + waitMs;
    // A timer of 0 ms is one of 1 ms, and a call waits.
    if (waitMs > 0) await delay(waitMs, this.#stop.signal);
    try {
      if (!this.#stop.signal.aborted) await this.#start(ROOM_MS);
      this.#isStarting = false;
      if (this.#lacks()) void this.startAnother();
    } catch (error) {
      this.#isStarting = false;
      this.#options.log.warn({ err: error }, 'worker did not start');
      const failure = toFuncatronError(error);
      // A runner that is full says nothing about the bundle.
      if (failure.code !== 'OVERLOADED') {
        this.#countCrash(false);
        this.#tellAuthor(failure);
      }
      this.#replace(failure);
    }
  }

  /** Gives `worker` no more calls; it ends after its last one. */
  retire(worker: HostedWorker): void {
    if (worker.state !== 'ready') return;
    this.#options.log.warn({ worker: worker.isolate?.id }, 'worker retires: a func did not end an aborted call');
    this.restarts++;
    this.#letGo(worker);
    void this.startAnother();
  }

  get hasSpare(): boolean {
    return this.#workers.size > this.#options.workersMin;
  }

  idleSince(): number | undefined {
    return this.#idle.longest()?.idleSince;
  }

  endIdle(): void {
    const worker = this.#idle.longest();
    if (worker !== undefined) this.#letGo(worker);
  }

  /** Ends a retiring worker that has no more calls. */
  endIfDone(worker: HostedWorker): void {
    if (worker.state !== 'retiring' || worker.isBusy) return;
    worker.isolate?.close().catch((error: unknown) => {
      this.#options.log.warn({ err: error }, 'a retired worker did not close');
    });
  }

  /** Ends all of them; what still runs is lost. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    this.#idle.stop();
    this.#options.budget.remove(this);
    await Promise.all([...this.#workers].map(async (worker) => worker.isolate?.close()));
  }

  #restartDelayMs(): number {
    const late = this.#crashes - QUICK_RESTARTS - 1;
    if (late < 0) return 0;
    return Math.min(RESTART_CAP_MS, RESTART_MS * 2 ** late) / 2 + backoffMs(late, RESTART_MS / 2, RESTART_CAP_MS / 2);
  }

  async #start(roomMs: number): Promise<void> {
    const { kind, spec, codeCache, budget, log } = this.#options;
    const events = this.#events;
    await budget.take(roomMs, this.#stop.signal);
    const worker = new HostedWorker(spec.concurrency, this.#options.bodiesTakeSlots === true, (late) =>
      events.onDeadline(late),
    );
    this.#workers.add(worker);
    try {
      const cached = await codeCache?.read();
      worker.isolate = await kind.start(cached === undefined ? spec : { ...spec, codeCache: cached }, {
        onReplies: (tag, envelope) => events.onReplies(worker, tag, envelope),
        onStream: (kind, payload) => events.onStream(worker, kind, payload),
        onLog: (line) => events.onLog(line),
        onOperation: (request, signal) => events.onOperation(request, signal),
        onCodeCache: (cache) => codeCache?.keep(cache),
        onExit: (exit) => this.#onExit(worker, exit),
      });
    } catch (error) {
      this.#forget(worker);
      throw error;
    }
    if (this.#stop.signal.aborted) return worker.isolate.close();
    if (!worker.becomeReady()) throw new FuncatronError('DEPLOY_FAILED', 'the worker died as soon as it had started');
    this.#failure = undefined;
    log.debug({ worker: worker.isolate.id, workerPid: worker.isolate.pid }, 'worker ready');
    events.onReady();
    this.#idle.watch();
    events.onChange();
    void watchHeartbeat(worker, worker.isolate, this.#stop.signal);
  }

  #onExit(worker: HostedWorker, exit: WorkerExit): void {
    const wasReady = worker.state === 'ready';
    const calls = [...worker.running];
    worker.running.clear();
    for (const exchange of worker.exchanges.values()) exchange.onWorkerGone();
    this.#forget(worker);
    if (exit.reason !== 'closed' && wasReady && !this.#stop.signal.aborted) {
      this.#options.log.warn({ reason: exit.reason, detail: exit.detail, calls: calls.length }, 'worker died');
      const failure = new FuncatronError('FUNC_CRASHED', `the worker died (${exit.reason}): ${exit.detail}`);
      const isSteady = performance.now() - worker.startedAt > STEADY_MS || (worker.hasAnswered && calls.length > 0);
      if (!isAnothersDoing(worker, calls, exit)) this.#countCrash(isSteady);
      this.restarts++;
      this.#tellAuthor(failure);
      this.#replace(failure);
    }
    // It served and went in peace: what was before it is over.
    if (exit.reason === 'closed' && worker.hasAnswered) this.#crashes = 0;
    this.#events.onGone(worker, calls, exit);
  }

  /** The runner's own log is the operator's; a bundle's author reads that of the bundle. */
  #tellAuthor({ message }: FuncatronError): void {
    this.#events.onLog({ time: Date.now(), level: 'error', message });
  }

  #countCrash(beginsAnew: boolean): void {
    this.#crashes = beginsAnew ? 1 : this.#crashes + 1;
    if (this.#crashes === 1) this.#failedSince = Date.now();
  }

  #replace(error: FuncatronError): void {
    if (this.ready === 0 && this.#crashes >= QUARANTINE_CRASHES) this.#failure = error;
    if (this.#lacks()) void this.startAnother();
    this.#events.onChange();
  }

  /** Whether a worker is missing: of the minimum, for calls that wait, or to find out whether the quarantine can end. */
  #lacks(): boolean {
    return this.ready < this.#options.workersMin || this.#failure !== undefined || this.#events.isWanted();
  }

  /** The worker takes no more calls and ends after its last one. */
  #letGo(worker: HostedWorker): void {
    worker.state = 'retiring';
    this.endIfDone(worker);
    this.#events.onChange();
  }

  #forget(worker: HostedWorker): void {
    worker.state = 'gone';
    if (this.#workers.delete(worker)) this.#options.budget.give();
  }
}

/** Whether a worker died with the process it shared, and more likely of another than of its own: then its bundle is not to wait for a new one. */
function isAnothersDoing(worker: HostedWorker, calls: readonly HeldCall[], { culprit }: WorkerExit): boolean {
  return culprit === 'another' || (culprit === 'unknown' && worker.hasAnswered && calls.length === 0);
}
