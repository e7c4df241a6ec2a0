import type { ClusterClock } from '../../core/clock.ts';
import { readLength, STREAM_ID_BYTES } from '../../core/wire/direct.ts';
import { CallFlag, encodeReplies, Envelope, HEADER_BYTES, ReplyFlag } from '../../core/wire/envelope.ts';
import { type Address, type Batch, HeldCall } from '../call.ts';
import type { HostedWorker } from '../hosted-worker.ts';
import type { Replies } from '../replies.ts';
import { Exchange } from './exchange.ts';
import type { DirectListener } from './listener.ts';

/** How long a frontend may take to come for what it was offered. */
const CLAIM_MS = 10_000;

export interface DirectCallsOptions {
  readonly listener: DirectListener;
  readonly replies: Replies;
  readonly clock: ClusterClock;
  /** Counts the one call of an envelope in. */
  readonly batch: (envelope: Envelope, address: Address) => Batch;
  /** A worker has one exchange less. */
  readonly onEnd: (worker: HostedWorker) => void;
}

/**
 * The calls of a revision whose bytes do not cross the queue. A call that came without its body becomes another one here
 * when it has its slot: the frontend is told where to bring the body, which is the answer to the one on the queue, whose
 * delivery is then done; where that connection leads is the address of the other.
 */
export class DirectCalls {
  readonly #options: DirectCallsOptions;
  #open = 0;

  constructor(options: DirectCallsOptions) {
    this.#options = options;
  }

  /** Exchanges that are not over. */
  get open(): number {
    return this.#open;
  }

  /** Takes a call that has a slot in `worker`; gives the one to run in its place. */
  accept(worker: HostedWorker, offered: HeldCall): HeldCall {
    const { listener, replies, batch } = this.#options;
    const exchange = this.#exchange(worker, offered.id, 'POST');
    const address = replies.add((answer) => {
      exchange.answer(answer);
      replies.remove(address);
      return Promise.resolve('accepted');
    });
    const call = new HeldCall(batch(onceOnly(offered), address), 0);
    address.calls.set(call.tail, call);
    const offer = JSON.stringify(listener.offer(exchange, this.#claimMs(offered)));
    const { id } = offered;
    offered.state = 'answered';
    const accepted = { id, status: 200, flags: ReplyFlag.accepted, waitUs: 0, funcUs: 0, meta: '', body: offer };
    replies.send(offered.batch.address, new Envelope(encodeReplies([accepted])));
    return call;
  }

  /** Has the frontend fetch the body of an answer: record `index`, which says how long it is. */
  offer(worker: HostedWorker, call: HeldCall, answers: Envelope, index: number): void {
    const { listener, replies } = this.#options;
    const exchange = this.#exchange(worker, call.id, 'GET');
    const offer = { ...listener.offer(exchange, CLAIM_MS), bytes: readLength(answers.body(index)) };
    const record = {
      id: answers.id(index),
      status: answers.status(index),
      flags: answers.replyFlags(index),
      waitUs: answers.waitUs(index),
      funcUs: answers.funcUs(index),
      meta: answers.meta(index),
      body: JSON.stringify(offer),
    };
    replies.send(call.batch.address, new Envelope(encodeReplies([record])));
  }

  /** A frame of a stream; those of exchanges that are over come late. @throws RangeError when it makes no sense */
  onFrame(worker: HostedWorker, kind: number, payload: Buffer): void {
    worker.exchanges.get(keyOf(payload))?.onFrame(kind, payload.subarray(STREAM_ID_BYTES));
  }

  #exchange(worker: HostedWorker, id: Buffer, method: 'POST' | 'GET'): Exchange {
    const { isolate } = worker;
    if (isolate === undefined) throw new Error('a call in a worker that has not started');
    const { listener, onEnd } = this.#options;
    const key = keyOf(id);
    worker.exchanges.get(key)?.reset('the call came again');
    const exchange = new Exchange({
      id,
      method,
      worker: isolate,
      onEnd: () => {
        this.#open--;
        listener.withdraw(exchange);
        if (worker.exchanges.get(key) === exchange) worker.exchanges.delete(key);
        onEnd(worker);
      },
    });
    this.#open++;
    worker.exchanges.set(key, exchange);
    return exchange;
  }

  #claimMs(call: HeldCall): number {
    return Math.min(CLAIM_MS, Math.max(1, call.deadline - this.#options.clock.now()));
  }
}

function keyOf(id: Buffer): string {
  return id.toString('latin1', 0, STREAM_ID_BYTES);
}

/** The call as an envelope of its own. Its body comes once: it may not run again, here or elsewhere. */
function onceOnly(call: HeldCall): Envelope {
  const bytes = call.batch.envelope.pick([call.index], call.attempt);
  const flags = HEADER_BYTES + 26;
  bytes[flags] = (bytes[flags] ?? 0) & ~CallFlag.mayRerun;
  return new Envelope(bytes);
}
