import type { ClusterClock } from '../core/clock.ts';
import type { ErrorCode } from '../core/errors.ts';
import { groupCalls, HeldCall, type Batch } from './call.ts';
import type { CallCounts } from './call-counts.ts';
import type { CallLog } from './call-log.ts';
import type { WorkerExit } from './isolate/isolate.ts';
import type { Replies } from './replies.ts';
import type { Returns } from './returns.ts';

/** A call that died with its runner or worker this many times is not run again. */
const MAX_ATTEMPTS = 2;

export interface LossesOptions {
  readonly replies: Replies;
  readonly returns: Returns;
  readonly clock: ClusterClock;
  readonly counts: CallCounts;
  readonly callLog: CallLog;
  /** What a worker may use, for whoever reads that it used more. */
  readonly memoryMb: number;
  /** Runs calls of one batch again in a fresh worker here. */
  rerun(batch: Batch, calls: HeldCall[]): void;
}

/** Decides about calls that cannot simply be answered by a func: each gets another attempt, or exactly one error. */
export class Losses {
  readonly #options: LossesOptions;

  constructor(options: LossesOptions) {
    this.#options = options;
  }

  /** A batch some runner died with (protocol §1.6): each of its calls may have run. */
  runnerDied(batch: Batch): void {
    const { returns, counts, clock } = this.#options;
    const { envelope, address } = batch;
    const lost: HeldCall[] = [];
    const poison: HeldCall[] = [];
    const late: HeldCall[] = [];
    const now = clock.now();
    counts.redelivered += envelope.count;
    for (let index = 0; index < envelope.count; index++) {
      const held = address.calls.get(envelope.idTail(index));
      if (held !== undefined) {
        // It was this runner's connection that died, not the call.
        (held.twins ??= []).push(batch);
        continue;
      }
      const call = new HeldCall(batch, index);
      if (call.deadline <= now) late.push(call);
      else if (call.attempt >= MAX_ATTEMPTS) poison.push(call);
      else if (call.mayRerun) returns.giveBack([nextAttempt(call)]);
      else lost.push(call);
    }
    this.tooLate(late);
    this.#fail(poison, 'FUNC_CRASHED', 'the runner died with this call more than once');
    this.#fail(lost, 'RUNNER_LOST', 'the runner died while it held the call');
  }

  /** The worker died: what may run again does so once, in a fresh one (protocol §1.13). */
  workerDied(calls: readonly HeldCall[], exit: WorkerExit): void {
    const { clock, counts, memoryMb } = this.#options;
    const now = clock.now();
    const late = calls.filter((call) => call.deadline <= now);
    const again = calls.filter((call) => call.deadline > now && mayRunAgain(call));
    const crashed = calls.filter((call) => call.deadline > now && !mayRunAgain(call));
    this.tooLate(late);
    const died = 'the worker died while it ran the func';
    this.#fail(crashed, 'FUNC_CRASHED', `${died} (${exit.reason})`, `${died} ${describeExit(exit, memoryMb)}`);
    counts.rerun += again.length;
    counts.crashed += crashed.length;
    for (const [batch, group] of groupCalls(again.map(nextAttempt))) this.#options.rerun(batch, group);
  }

  /** The drain took too long and the workers were ended: what may run again does so elsewhere. */
  cutShort(calls: readonly HeldCall[]): void {
    const { returns } = this.#options;
    const again = calls.filter((call) => call.batch.address.queue !== undefined && mayRunAgain(call));
    const lost = calls.filter((call) => !again.includes(call));
    this.#fail(lost, 'RUNNER_LOST', 'the runner stopped before the func ended');
    for (const call of again) returns.giveBack([nextAttempt(call)]);
  }

  /** Calls that have waited for a slot as long as calls may. */
  refused(calls: readonly HeldCall[]): void {
    this.#fail(calls, 'OVERLOADED', 'no worker was free in time');
  }

  /** Calls that are not to be started here. */
  unstarted(calls: readonly HeldCall[]): void {
    const now = this.#options.clock.now();
    this.tooLate(calls.filter((call) => call.deadline <= now));
    this.#options.returns.giveBack(calls.filter((call) => call.deadline > now));
  }

  /** Calls whose deadline passed before they were answered. */
  tooLate(calls: readonly HeldCall[]): void {
    this.#options.counts.expired += calls.length;
    this.#fail(calls, 'TIMEOUT', 'the deadline passed before the call was answered');
  }

  /** Calls that were accepted, and whose frontend did not come with their bodies: they have not run. */
  unclaimed(calls: readonly HeldCall[]): void {
    const message = 'no frontend brought its body; `funcatron doctor` says which of them cannot reach this runner';
    this.#fail(calls, 'RUNNER_UNREACHABLE', message);
  }

  /** Calls whose func goes on although they were aborted. */
  stuck(calls: readonly HeldCall[]): void {
    this.#fail(calls, 'TIMEOUT', 'the func did not end before its deadline');
  }

  /** `detail` is for the bundle's log alone. */
  #fail(calls: readonly HeldCall[], code: ErrorCode, message: string, detail = message): void {
    for (const call of calls) this.#options.callLog.ended(call, code, detail);
    this.#options.replies.fail(calls, code, message);
  }
}

function describeExit({ reason, detail }: WorkerExit, memoryMb: number): string {
  const advice = reason === 'memory' ? `; raise x-funcatron.memoryMb, which is ${memoryMb}, if it needs more` : '';
  return `(${reason}: ${detail})${advice}`;
}

function mayRunAgain(call: HeldCall): boolean {
  return call.mayRerun && call.attempt < MAX_ATTEMPTS;
}

function nextAttempt(call: HeldCall): HeldCall {
  call.state = 'waiting';
  call.worker = undefined;
  call.attempt++;
  return call;
}
