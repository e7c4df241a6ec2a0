import type { Broker } from '../core/broker/broker.ts';
import type { ClusterClock } from '../core/clock.ts';
import { backoffMs } from '../core/deadline.ts';
import { delay } from '../core/lifecycle.ts';
import { groupCalls, type Batch, type HeldCall } from './call.ts';
import type { Replies } from './replies.ts';

export interface ReturnsOptions {
  readonly broker: Broker;
  /** The revision's queue. */
  readonly queue: string;
  readonly replies: Replies;
  readonly clock: ClusterClock;
  /** Aborts when the runner cannot wait for the broker any longer: what is then unsettled, the broker delivers again. */
  readonly signal: AbortSignal;
}

/**
 * Gives calls that were not started back to their queue: by publishing them again, because anything that makes
 * RabbitMQ requeue a message also makes it look as if it may have run (protocol §1.5).
 */
export class Returns {
  readonly #options: ReturnsOptions;

  constructor(options: ReturnsOptions) {
    this.#options = options;
  }

  /** Publishes calls again, with the attempt they carry now; those of a trigger, which has its own way to retry, are refused. */
  giveBack(calls: readonly HeldCall[]): void {
    for (const [batch, list] of groupCalls(calls)) {
      if (batch.address.queue === undefined) {
        this.#options.replies.fail(list, 'OVERLOADED', 'no slot was free on this runner');
        continue;
      }
      void this.#publish(batch, list);
    }
  }

  async #publish(batch: Batch, calls: readonly HeldCall[]): Promise<void> {
    const { broker, queue, replies, clock, signal } = this.#options;
    const { envelope, address } = batch;
    const attempt = calls[0]?.attempt;
    const body = envelope.pick(
      calls.map((call) => call.index),
      attempt,
    );
    // Forgotten before they are published: they may come back at once, as a new delivery.
    for (const call of calls) {
      call.state = 'settled';
      address.calls.delete(call.tail);
    }
    for (let round = 0; !signal.aborted; round++) {
      const remainingMs = Math.ceil(Math.max(...calls.map((call) => call.deadline)) - clock.now());
      if (remainingMs < 1) return replies.fail(calls, 'TIMEOUT', 'the deadline passed before a runner was free');
      const outcome = await broker.publish({
        exchange: '',
        routingKey: queue,
        body,
        mandatory: true,
        properties: {
          contentType: 'application/x-funcatron',
          type: 'calls',
          expirationMs: remainingMs,
          ...(address.queue === undefined ? {} : { replyTo: address.queue }),
        },
      });
      if (outcome === 'accepted') return settleAll(calls);
      if (outcome === 'returned') return replies.fail(calls, 'NO_RUNNER', `the queue ${queue} is gone`);
      if (outcome === 'lost' && !calls.every((call) => call.mayRerun)) {
        return replies.fail(calls, 'OUTCOME_UNKNOWN', 'the broker was lost while the call was given back to it');
      }
      await delay(backoffMs(round, 20, 1_000), signal);
      await broker.ready(AbortSignal.any([signal, AbortSignal.timeout(1_000)]));
    }
  }
}

function settleAll(calls: readonly HeldCall[]): void {
  for (const call of calls) call.settle();
}
