import type { Broker } from '../../core/broker/broker.ts';
import { openRpc, type Rpc } from '../../core/broker/rpc.ts';
import { RpcTarget, type RpcFailure } from '../../core/broker/batch.ts';
import type { ClusterClock } from '../../core/clock.ts';
import { FuncatronError, type ErrorCode } from '../../core/errors.ts';
import { newId } from '../../core/id.ts';
import { delay, type Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { CallRecord } from '../../core/wire/envelope.ts';
import { openAnswer, type Answer } from './answer.ts';

const LIMITS = { maxInFlight: 1_000, maxInFlightBytes: 64 * 1024 * 1024 } as const;

/** How long the first call waits for the reply queue. */
const OPEN_MS = 5_000;

const FAILURES: Readonly<Record<RpcFailure, readonly [ErrorCode, string]>> = {
  timeout: ['TIMEOUT', 'no answer before the deadline'],
  refused: ['OVERLOADED', 'the queue of the revision is full'],
  returned: ['NO_RUNNER', 'no runner holds the revision'],
  down: ['BROKER_DOWN', 'the broker cannot be reached'],
  unknown: ['OUTCOME_UNKNOWN', 'the broker lost the call or its reply'],
};

export interface ForwarderOptions {
  readonly broker: Broker;
  readonly clock: ClusterClock;
  readonly log: Log;
}

/** Makes calls to revisions other runners hold, over their queues. The reply queue is opened by the first of them. */
export class Forwarder implements Closable {
  readonly #options: ForwarderOptions;
  #rpc: Rpc | undefined;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /** Settles with how the call ended; never rejects. Aborted, it tells the other runner, and ends as TIMEOUT. */
  async run(queue: string, record: CallRecord, signal?: AbortSignal): Promise<Answer> {
    const rpc = (this.#rpc ??= openRpc({ ...this.#options, id: newId(), limits: LIMITS }));
    const end = performance.now() + OPEN_MS;
    while (!rpc.isReady && performance.now() < end) {
      if (signal?.aborted === true) break;
      await delay(10, signal);
    }
    return new Promise((resolve) => {
      const fail = (failure: RpcFailure): void => resolve({ error: new FuncatronError(...FAILURES[failure]) });
      if (signal?.aborted === true) return fail('timeout');
      const onAbort = (): void => {
        rpc.cancel(call);
        fail('timeout');
      };
      const call = rpc.call(new RpcTarget(queue, 1), record, {
        onReply(envelope, index) {
          signal?.removeEventListener('abort', onAbort);
          resolve(openAnswer(envelope, index));
        },
        onFailure(failure) {
          signal?.removeEventListener('abort', onAbort);
          fail(failure);
        },
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  async close(): Promise<void> {
    await this.#rpc?.close();
  }
}
