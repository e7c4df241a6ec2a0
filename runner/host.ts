import type { ClusterClock } from '../core/clock.ts';
import { backoffMs, type TimerWheel } from '../core/deadline.ts';
import { FuncatronError, toFuncatronError } from '../core/errors.ts';
import { delay, within, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { Batch, HeldCall } from './call.ts';
import { HostedWorker } from './hosted-worker.ts';
import type { IsolateKind, Worker, WorkerEvents, WorkerExit, WorkerSpec } from './isolate/isolate.ts';
import { WaitingLine } from './waiting-line.ts';
import type { WorkerBudget } from './worker-budget.ts';

/** How long a worker may be silent once a deadline has passed (protocol §1.13). */
const PONG_MS = 250;
/** How long a func may take to end a call that was aborted. */
const ABORT_GRACE_MS = 500;
/** A worker that lived this long did not crash at once: the count of crashes begins anew. */
const STEADY_MS = 10_000;
/** Crashes in a row that are answered with a new worker at once. */
const QUICK_RESTARTS = 3;
/** Crashes in a row after which a revision without workers counts as failed. */
const QUARANTINE_CRASHES = 5;

/** What a host tells its owner. */
export interface HostEvents extends Pick<WorkerEvents, 'onLog' | 'onOperation'> {
  /** Answers of a worker, to calls of one address. */
  onReplies(worker: HostedWorker, tag: number, envelope: Buffer): void;
  /** Calls that can no longer be answered by the worker they ran in. Those that may run again are offered again. */
  onLost(calls: readonly HeldCall[], reason: string): void;
  /** Calls a func did not end although they were aborted. */
  onStuck(calls: readonly HeldCall[]): void;
  /** Calls that waited too long for a slot, or whose deadline passed meanwhile. */
  onUnstarted(calls: readonly HeldCall[]): void;
  /** Workers came or went, or the revision got into or out of quarantine. */
  onChange(): void;
}

export interface HostOptions {
  readonly kind: IsolateKind;
  readonly spec: WorkerSpec;
  readonly workersMax: number;
  readonly workersMin: number;
  readonly slotTimeoutMs: number;
  readonly budget: WorkerBudget;
  readonly wheel: TimerWheel;
  readonly clock: ClusterClock;
  readonly log: Log;
  readonly events: HostEvents;
}

/**
 * The workers of one revision: gives each call a slot, starts workers on demand, replaces those that die, kills those
 * that are blocked and retires those that leak.
 */
export class Host implements Closable {
  readonly #options: HostOptions;
  readonly #workers = new Set<HostedWorker>();
  /** Calls for any worker with a free slot, and calls whose worker died: those only for a worker that runs nothing else. */
  readonly #line: WaitingLine;
  readonly #reruns: WaitingLine;
  readonly #stop = new AbortController();
  #crashes = 0;
  #restarting = false;
  #failure: FuncatronError | undefined;
  #closing: Promise<void> | undefined;
  /** Workers that were started because one before them died. */
  restarts = 0;

  constructor(options: HostOptions) {
    this.#options = options;
    const { wheel, clock, slotTimeoutMs } = options;
    const onOver = (calls: readonly HeldCall[]): void => options.events.onUnstarted(calls);
    this.#line = new WaitingLine({ wheel, clock, slotTimeoutMs, onOver });
    this.#reruns = new WaitingLine({ wheel, clock, slotTimeoutMs, onOver });
  }

  /** Starts the first worker. @throws DEPLOY_FAILED with the func's own error; WEAK_ISOLATION; OVERLOADED */
  open(): Promise<void> {
    return this.#startWorker();
  }

  /** Workers that take calls. */
  get workers(): number {
    let count = 0;
    for (const worker of this.#workers) if (worker.state === 'ready') count++;
    return count;
  }

  /** Why no worker stays alive, while that is so. */
  get failure(): FuncatronError | undefined {
    return this.#failure;
  }

  /** Takes calls of one batch: they start now, or wait for a slot. */
  offer(batch: Batch, calls: HeldCall[]): void {
    const worker = this.#freest();
    if (worker !== undefined && worker.free >= calls.length && this.#line.size === 0) {
      this.#send(worker, batch, calls);
      return;
    }
    this.#line.add(batch, calls);
    this.#fill();
  }

  /** Takes calls whose worker died, for a fresh one: should one of them be what killed it, no others die with it. */
  offerAgain(batch: Batch, calls: HeldCall[]): void {
    this.#reruns.add(batch, calls);
    this.#fill();
  }

  /** Slots of `worker` became free. */
  released(worker: HostedWorker): void {
    if (this.#line.size + this.#reruns.size > 0) this.#fill();
    if (worker.state === 'retiring' && worker.running.size === 0) this.#end(worker);
  }

  /** Takes away the calls that wait for a slot. */
  takeWaiting(): readonly HeldCall[] {
    return [...this.#reruns.empty(), ...this.#line.empty()];
  }

  /** Ends the workers: drain first, what still runs is lost. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    this.takeWaiting();
    await Promise.all([...this.#workers].map(async (worker) => worker.isolate?.close()));
  }

  #freest(): HostedWorker | undefined {
    let best: HostedWorker | undefined;
    for (const worker of this.#workers) {
      if (worker.free > (best?.free ?? 0)) best = worker;
    }
    return best;
  }

  /** Gives waiting calls the free slots there are, and starts a worker when there are too few. */
  #fill(): void {
    this.#fillFrom(this.#reruns, () => this.#idle());
    this.#fillFrom(this.#line, () => this.#freest());
  }

  #fillFrom(line: WaitingLine, choose: () => HostedWorker | undefined): void {
    for (let batch = line.next(); batch !== undefined; batch = line.next()) {
      const worker = choose();
      if (worker === undefined) {
        void this.#startAnother();
        return;
      }
      this.#send(worker, batch, line.take(worker.free));
    }
  }

  #idle(): HostedWorker | undefined {
    for (const worker of this.#workers) if (worker.state === 'ready' && worker.running.size === 0) return worker;
    return undefined;
  }

  #send(worker: HostedWorker, batch: Batch, calls: readonly HeldCall[]): void {
    const first = calls[0];
    if (first === undefined) return;
    const { envelope, address } = batch;
    let earliest = Infinity;
    for (const call of calls) {
      call.state = 'running';
      call.worker = worker;
      worker.running.add(call);
      earliest = Math.min(earliest, call.deadline);
    }
    const unchanged = calls.length === envelope.count && first.attempt === envelope.attempt(first.index);
    const bytes = unchanged ? envelope.buffer : envelope.pick(indexesOf(calls), first.attempt);
    worker.isolate?.send(address.tag, bytes, this.#options.clock.offsetMs);
    this.#watch(worker, earliest);
  }

  /** One wheel entry a worker, for the earliest of its deadlines: no timer a call. */
  #watch(worker: HostedWorker, deadline: number): void {
    if (worker.watchedDeadline !== 0 && worker.watchedDeadline <= deadline) return;
    if (worker.watchedDeadline !== 0) this.#options.wheel.remove(worker);
    worker.watchedDeadline = deadline;
    this.#options.wheel.add(worker, Math.max(0, deadline - this.#options.clock.now()));
  }

  #onDeadline(worker: HostedWorker): void {
    worker.watchedDeadline = 0;
    const now = this.#options.clock.now();
    const overdue: HeldCall[] = [];
    let earliest = Infinity;
    for (const call of worker.running) {
      if (call.deadline > now) earliest = Math.min(earliest, call.deadline);
      else overdue.push(call);
    }
    if (earliest < Infinity) this.#watch(worker, earliest);
    if (overdue.length > 0 && worker.isolate !== undefined) void this.#abort(worker, worker.isolate, overdue);
  }

  /** Protocol §1.13: cancel, look whether the worker still answers, then whether the func let go. */
  async #abort(worker: HostedWorker, isolate: Worker, calls: readonly HeldCall[]): Promise<void> {
    isolate.cancel(Buffer.concat(calls.map((call) => call.id)));
    try {
      await within(isolate.ping(), PONG_MS, 'no pong');
    } catch {
      isolate.kill(); // Does nothing when it exited meanwhile; onExit answers the calls.
      return;
    }
    await delay(ABORT_GRACE_MS, this.#stop.signal);
    const stuck = calls.filter((call) => call.state === 'running' && call.worker === worker);
    if (stuck.length === 0) return;
    for (const call of stuck) worker.running.delete(call);
    this.#options.events.onStuck(stuck);
    this.#retire(worker);
  }

  #retire(worker: HostedWorker): void {
    if (worker.state !== 'ready') return;
    this.#options.log.warn({ worker: worker.isolate?.id }, 'worker retires: a func did not end an aborted call');
    worker.state = 'retiring';
    this.restarts++;
    void this.#startAnother();
    if (worker.running.size === 0) this.#end(worker);
    this.#options.events.onChange();
  }

  #end(worker: HostedWorker): void {
    worker.isolate?.close().catch((error: unknown) => {
      this.#options.log.warn({ err: error }, 'a retired worker did not close');
    });
  }

  /** Starts one more worker when there is room for it; failures lead to the next attempt, later. */
  async #startAnother(): Promise<void> {
    let alive = 0;
    for (const worker of this.#workers) {
      if (worker.state === 'starting') return;
      if (worker.state === 'ready') alive++;
    }
    if (this.#restarting || this.#stop.signal.aborted || alive >= this.#options.workersMax) return;
    if (alive > 0 && this.#options.budget.isSpent) return;
    this.#restarting = true;
    await delay(this.#restartDelayMs(), this.#stop.signal);
    this.#restarting = false;
    if (this.#stop.signal.aborted) return;
    try {
      await this.#startWorker();
    } catch (error) {
      this.#onStartFailed(toFuncatronError(error));
    }
  }

  #restartDelayMs(): number {
    return this.#crashes <= QUICK_RESTARTS ? 0 : backoffMs(this.#crashes - QUICK_RESTARTS, 200, 30_000);
  }

  async #startWorker(): Promise<void> {
    const { kind, spec, events, budget } = this.#options;
    const worker = new HostedWorker(spec.concurrency, (late) => this.#onDeadline(late));
    budget.take();
    this.#workers.add(worker);
    try {
      worker.isolate = await kind.start(spec, {
        onReplies: (tag, envelope) => events.onReplies(worker, tag, envelope),
        onLog: (line) => events.onLog(line),
        onOperation: (request, signal) => events.onOperation(request, signal),
        onExit: (exit) => this.#onExit(worker, exit),
      });
    } catch (error) {
      this.#forget(worker);
      throw error;
    }
    if (this.#stop.signal.aborted) {
      await worker.isolate.close();
      return;
    }
    if (!worker.becomeReady()) throw new FuncatronError('DEPLOY_FAILED', 'the worker died as soon as it had started');
    this.#failure = undefined;
    this.#options.log.debug({ worker: worker.isolate.id, workerPid: worker.isolate.pid }, 'worker ready');
    this.#fill();
    if (this.workers < this.#options.workersMin) void this.#startAnother();
    events.onChange();
  }

  #onStartFailed(error: FuncatronError): void {
    this.#crashes++;
    this.#options.log.warn({ err: error }, 'worker did not start, trying again');
    this.#replace(error);
  }

  #onExit(worker: HostedWorker, exit: WorkerExit): void {
    if (worker.state === 'gone') return;
    const wasStarting = worker.state === 'starting';
    this.#forget(worker);
    const calls = [...worker.running];
    worker.running.clear();
    if (exit.reason === 'closed' || this.#stop.signal.aborted) {
      if (calls.length > 0) this.#options.events.onLost(calls, exit.detail);
      return;
    }
    // start() rejects, and whoever awaits it goes on.
    if (wasStarting) return;
    this.#options.log.warn({ reason: exit.reason, detail: exit.detail, calls: calls.length }, 'worker died');
    this.#crashes = performance.now() - worker.startedAt > STEADY_MS ? 1 : this.#crashes + 1;
    this.restarts++;
    // The replacement is under way before lost calls are offered again: they wait for it.
    this.#replace(toFuncatronError(new Error(`worker ${exit.reason}: ${exit.detail}`), 'FUNC_CRASHED'));
    if (calls.length > 0) this.#options.events.onLost(calls, exit.detail);
  }

  #replace(error: FuncatronError): void {
    if (this.workers === 0 && this.#crashes >= QUARANTINE_CRASHES) this.#failure = error;
    void this.#startAnother();
    this.#options.events.onChange();
  }

  #forget(worker: HostedWorker): void {
    worker.state = 'gone';
    this.#options.wheel.remove(worker);
    if (this.#workers.delete(worker)) this.#options.budget.give();
  }
}

function indexesOf(calls: readonly HeldCall[]): number[] {
  return calls.map((call) => call.index);
}
