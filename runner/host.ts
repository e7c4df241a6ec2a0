import type { ClusterClock } from '../core/clock.ts';
import type { TimerWheel } from '../core/deadline.ts';
import type { Closable } from '../core/lifecycle.ts';
import type { Envelope } from '../core/wire/envelope.ts';
import type { Batch, HeldCall } from './call.ts';
import type { CallCounts } from './call-counts.ts';
import { DeadlineWatch } from './deadline-watch.ts';
import type { HostedWorker } from './hosted-worker.ts';
import type { WorkerExit } from './isolate/isolate.ts';
import { WaitingLine } from './waiting-line.ts';
import { WorkerPool, type PoolEvents, type PoolOptions, type Quarantine } from './worker-pool.ts';

/** What a host tells its owner. */
export interface HostEvents extends Pick<PoolEvents, 'onLog' | 'onOperation' | 'onReplies' | 'onStream' | 'onChange'> {
  /** A call has its slot, and its body is elsewhere: it is to be asked for. Gives the call that takes the slot. */
  onOffered(worker: HostedWorker, call: HeldCall): HeldCall;
  /** Calls whose worker is gone: they will not be answered by it. */
  onLost(calls: readonly HeldCall[], exit: WorkerExit): void;
  /** Calls a func did not end although they were aborted. */
  onStuck(calls: readonly HeldCall[]): void;
  /** Calls another runner may have a slot for, or whose deadline passed while they waited. */
  onUnstarted(calls: readonly HeldCall[]): void;
  /** Calls that have waited as long for a slot as calls may. */
  onRefused(calls: readonly HeldCall[]): void;
}

export interface HostOptions extends PoolOptions {
  readonly slotTimeoutMs: number;
  readonly wheel: TimerWheel;
  readonly clock: ClusterClock;
  readonly counts: Pick<CallCounts, 'started'>;
  readonly events: HostEvents;
}

/** Gives each call of one revision a slot in one of its workers, or a place in the line, and watches over its deadline. */
export class Host implements Closable {
  readonly #options: HostOptions;
  readonly #pool: WorkerPool;
  readonly #deadlines: DeadlineWatch;
  /**
   * Calls for any worker with a free slot; calls whose worker died: those only for a worker that runs nothing else; and
   * calls that others here wait for, who lend them their slots.
   */
  readonly #line: WaitingLine;
  readonly #reruns: WaitingLine;
  readonly #nested: WaitingLine;
  readonly #stop = new AbortController();

  constructor(options: HostOptions) {
    this.#options = options;
    const { wheel, clock, slotTimeoutMs, events } = options;
    const line = {
      wheel,
      clock,
      slotTimeoutMs,
      onOver: (calls: readonly HeldCall[]) => events.onUnstarted(calls),
      onRefused: (calls: readonly HeldCall[]) => events.onRefused(calls),
    };
    this.#line = new WaitingLine(line);
    this.#reruns = new WaitingLine(line);
    this.#nested = new WaitingLine({ ...line, keepsAll: true });
    this.#deadlines = new DeadlineWatch({
      wheel,
      clock,
      signal: this.#stop.signal,
      onStuck: (worker, calls) => this.#onStuck(worker, calls),
    });
    this.#pool = new WorkerPool(options, {
      onLog: (line) => events.onLog(line),
      onOperation: (request, signal) => events.onOperation(request, signal),
      onReplies: (worker, tag, envelope) => events.onReplies(worker, tag, envelope),
      onStream: (worker, kind, payload) => events.onStream(worker, kind, payload),
      onDeadline: (worker) => this.#deadlines.expired(worker),
      onReady: () => this.#fill(),
      onGone: (worker, calls, exit) => this.#onGone(worker, calls, exit),
      isWanted: () => this.#waiting > 0,
      onChange: () => events.onChange(),
    });
  }

  /** Starts the first worker. @throws DEPLOY_FAILED with the func's own error; WEAK_ISOLATION; OVERLOADED */
  open(): Promise<void> {
    return this.#pool.open();
  }

  /** Workers that take calls. */
  get workers(): number {
    return this.#pool.ready;
  }

  /** Workers that were started because one before them died or was retired. */
  get restarts(): number {
    return this.#pool.restarts;
  }

  /** There while no worker stays alive. */
  get quarantine(): Quarantine | undefined {
    return this.#pool.quarantine;
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

  /**
   * Takes a call that a call here waits for. The slots of those that wait are lent to such calls: they would otherwise
   * wait for each other until their deadlines.
   */
  offerNested(batch: Batch, calls: HeldCall[]): void {
    this.#nested.add(batch, calls);
    this.#fill();
  }

  /** Free slots, those of workers that are still to be started among them, less the calls that wait for one. */
  get room(): number {
    const { workersMax, spec } = this.#options;
    let room = Math.max(0, workersMax - this.#pool.ready) * spec.concurrency - this.#waiting;
    for (const worker of this.#pool.all) room += worker.free;
    return room;
  }

  /** Whether calls here wait for calls they made. */
  get hasLenders(): boolean {
    for (const worker of this.#pool.all) if (worker.lenders > 0) return true;
    return false;
  }

  /** Takes calls of one batch and attempt whose worker died, for a fresh one: should one of them be what killed it, no others die with it. */
  offerAgain(batch: Batch, calls: HeldCall[]): void {
    this.#reruns.add(batch, calls);
    this.#fill();
  }

  /** Slots of `worker` became free. */
  released(worker: HostedWorker): void {
    worker.hasAnswered = true;
    if (!worker.isBusy) worker.idleSince = performance.now();
    if (this.#waiting > 0) this.#fill();
    this.#pool.endIfDone(worker);
  }

  /** The body of a call that has its slot has come: it starts, unless it has been answered meanwhile. */
  begin(worker: HostedWorker, call: HeldCall): void {
    if (call.state !== 'running' || call.worker !== worker) return;
    call.startedAt = performance.now();
    worker.isolate?.send(call.batch.address.tag, call.batch.envelope.buffer, this.#options.clock.offsetMs);
  }

  /** It has not come: the slot is free again. Whether the call still had it. */
  giveUp(worker: HostedWorker, call: HeldCall): boolean {
    if (call.state !== 'running' || !worker.running.delete(call)) return false;
    this.exchanged(worker);
    return true;
  }

  /** A body has left, or come. */
  exchanged(worker: HostedWorker): void {
    if (!worker.isBusy) worker.idleSince = performance.now();
    if (this.#waiting > 0) this.#fill();
    this.#pool.endIfDone(worker);
  }

  /** Takes away the calls that wait for a slot. */
  takeWaiting(): readonly HeldCall[] {
    return [...this.#reruns.empty(), ...this.#nested.empty(), ...this.#line.empty()];
  }

  /** Ends the workers: drain first, what still runs is lost. */
  close(): Promise<void> {
    this.#stop.abort();
    this.takeWaiting();
    return this.#pool.close();
  }

  get #waiting(): number {
    return this.#line.size + this.#reruns.size + this.#nested.size;
  }

  #freest(): HostedWorker | undefined {
    let best: HostedWorker | undefined;
    for (const worker of this.#pool.all) {
      if (worker.free > (best?.free ?? 0)) best = worker;
    }
    return best;
  }

  #lender(): HostedWorker | undefined {
    const free = this.#freest();
    if (free !== undefined) return free;
    for (const worker of this.#pool.all) if (worker.lendable > 0) return worker;
    return undefined;
  }

  #idle(): HostedWorker | undefined {
    for (const worker of this.#pool.all) if (worker.state === 'ready' && worker.running.size === 0) return worker;
    return undefined;
  }

  /** Gives waiting calls the free slots there are, and starts a worker when there are too few. */
  #fill(): void {
    this.#fillFrom(this.#reruns, () => this.#idle());
    this.#fillFrom(this.#nested, () => this.#lender());
    this.#fillFrom(this.#line, () => this.#freest());
  }

  #fillFrom(line: WaitingLine, choose: () => HostedWorker | undefined): void {
    for (let batch = line.next(); batch !== undefined; batch = line.next()) {
      const worker = choose();
      if (worker === undefined) {
        void this.#pool.startAnother();
        return;
      }
      this.#send(worker, batch, line.take(line === this.#nested ? worker.lendable : worker.free));
    }
  }

  #send(worker: HostedWorker, batch: Batch, calls: readonly HeldCall[]): void {
    if (!calls.some(isOffered)) return this.#start(worker, batch, calls);
    this.#start(
      worker,
      batch,
      calls.filter((call) => !call.isOffered),
    );
    for (const call of calls) {
      if (call.isOffered) this.#occupy(worker, this.#options.events.onOffered(worker, call));
    }
  }

  #start(worker: HostedWorker, batch: Batch, calls: readonly HeldCall[]): void {
    const first = calls[0];
    if (first === undefined) return;
    this.#occupy(worker, first, calls);
    const now = performance.now();
    for (const call of calls) call.startedAt = now;
    const { envelope, address } = batch;
    worker.isolate?.send(address.tag, bytesOf(envelope, calls, first), this.#options.clock.offsetMs);
  }

  /** Calls of one batch take their slots. */
  #occupy(worker: HostedWorker, first: HeldCall, calls: readonly HeldCall[] = [first]): void {
    const { arrival } = first.batch;
    const coldMs = worker.coldMs(arrival.ms);
    if (first.startedAt === 0) this.#options.counts.started(calls.length, performance.now() - arrival.ms, coldMs);
    let earliest = Infinity;
    for (const call of calls) {
      call.state = 'running';
      call.worker = worker;
      call.coldMs = coldMs;
      worker.running.add(call);
      earliest = Math.min(earliest, call.deadline);
    }
    this.#deadlines.watch(worker, earliest);
  }

  #onStuck(worker: HostedWorker, calls: readonly HeldCall[]): void {
    this.#options.events.onStuck(calls);
    this.#pool.retire(worker);
  }

  #onGone(worker: HostedWorker, calls: readonly HeldCall[], exit: WorkerExit): void {
    this.#deadlines.forget(worker);
    if (calls.length > 0) this.#options.events.onLost(calls, exit);
  }
}

function isOffered(call: HeldCall): boolean {
  return call.isOffered;
}

/** Calls of one batch as an envelope: the one they came in, where they are all of it and run for the first time. */
function bytesOf(envelope: Envelope, calls: readonly HeldCall[], first: HeldCall): Buffer {
  const isRerun = first.attempt !== envelope.attempt(first.index);
  if (calls.length === envelope.count && !isRerun) return envelope.buffer;
  return envelope.pick(
    calls.map((call) => call.index),
    isRerun ? first.attempt : undefined,
  );
}
