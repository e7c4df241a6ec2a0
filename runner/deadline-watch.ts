import type { ClusterClock } from '../core/clock.ts';
import type { TimerWheel } from '../core/deadline.ts';
import { delay } from '../core/lifecycle.ts';
import type { HeldCall } from './call.ts';
import { hasPulse } from './heartbeat.ts';
import type { HostedWorker } from './hosted-worker.ts';
import type { Worker } from './isolate/isolate.ts';

/** How long a worker may be silent once a deadline has passed (protocol §1.13). */
const PONG_MS = 250;
/** How long a func may take to end a call that was aborted. */
const ABORT_GRACE_MS = 500;

export interface DeadlineWatchOptions {
  readonly wheel: TimerWheel;
  readonly clock: ClusterClock;
  /** Aborts when the host closes. */
  readonly signal: AbortSignal;
  /** Calls a func did not end although they were aborted; the worker no longer counts them. */
  onStuck(worker: HostedWorker, calls: readonly HeldCall[]): void;
}

/**
 * Sees to it that calls end with their deadlines (protocol §1.13): it aborts them, kills a worker that does not answer,
 * and names the calls of one that answers but does not let go. One wheel entry a worker, for the earliest of its
 * deadlines: no timer a call.
 */
export class DeadlineWatch {
  readonly #options: DeadlineWatchOptions;

  constructor(options: DeadlineWatchOptions) {
    this.#options = options;
  }

  /** `worker` has got a call with this deadline. */
  watch(worker: HostedWorker, deadline: number): void {
    if (deadline === Infinity) return;
    if (worker.watchedDeadline !== 0 && worker.watchedDeadline <= deadline) return;
    const { wheel, clock } = this.#options;
    if (worker.watchedDeadline !== 0) wheel.remove(worker);
    worker.watchedDeadline = deadline;
    wheel.add(worker, Math.max(0, deadline - clock.now()));
  }

  forget(worker: HostedWorker): void {
    this.#options.wheel.remove(worker);
  }

  /** The earliest deadline of `worker` has come. */
  expired(worker: HostedWorker): void {
    worker.watchedDeadline = 0;
    const now = this.#options.clock.now();
    const overdue: HeldCall[] = [];
    let earliest = Infinity;
    for (const call of worker.running) {
      if (call.deadline > now) earliest = Math.min(earliest, call.deadline);
      else overdue.push(call);
    }
    if (earliest < Infinity) this.watch(worker, earliest);
    if (overdue.length > 0 && worker.isolate !== undefined) void this.#end(worker, worker.isolate, overdue);
  }

  async #end(worker: HostedWorker, isolate: Worker, calls: readonly HeldCall[]): Promise<void> {
    isolate.cancel(Buffer.concat(calls.map((call) => call.id)));
    if (!(await hasPulse(isolate, PONG_MS))) {
      isolate.kill(); // Does nothing when it is gone already; its exit answers the calls.
      return;
    }
    await delay(ABORT_GRACE_MS, this.#options.signal);
    const stuck = calls.filter((call) => call.state === 'running' && call.worker === worker);
    if (stuck.length === 0 || this.#options.signal.aborted) return;
    for (const call of stuck) worker.running.delete(call);
    this.#options.onStuck(worker, stuck);
  }
}
