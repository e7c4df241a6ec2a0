import type { ClusterClock } from '../../core/clock.ts';
import type { TimerWheel } from '../../core/deadline.ts';
import { CLAIM_MS, type DirectOffer, STREAM_ID_BYTES } from '../../core/wire/direct.ts';
import { CallFlag, encodeReplies, Envelope, HEADER_BYTES, ReplyFlag } from '../../core/wire/envelope.ts';
import { type Address, type Batch, HeldCall } from '../call.ts';
import type { HostedWorker } from '../hosted-worker.ts';
import type { Replies } from '../replies.ts';
import { Exchange, type ExchangeOptions } from './exchange.ts';
import type { DirectListener } from './listener.ts';

export interface DirectCallsOptions {
  readonly listener: DirectListener;
  readonly replies: Replies;
  readonly clock: ClusterClock;
  readonly wheel: TimerWheel;
  /** Counts the one call of an envelope in, which came when `before` did. */
  readonly batch: (envelope: Envelope, address: Address, before: Batch) => Batch;
  /** The body of a call that was accepted has come: it is to be run. */
  readonly onClaimed: (worker: HostedWorker, call: HeldCall) => void;
  /** It has not, in time: its slot is free again. Or the call is offered `again`: nobody waits for this one. */
  readonly onUnclaimed: (worker: HostedWorker, call: HeldCall, why: 'late' | 'again') => void;
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

  /** Takes a call that has a slot in `worker`; gives the one that takes the slot in its place, until its body has come. */
  accept(worker: HostedWorker, offered: HeldCall): HeldCall {
    const { listener, replies, batch, onClaimed, onUnclaimed } = this.#options;
    const { id } = offered;
    const address = replies.add((answer) => {
      exchange.answer(answer);
      replies.remove(address);
      return Promise.resolve('accepted');
    });
    const call = new HeldCall(batch(onceOnly(offered), address, offered.batch), 0);
    address.calls.set(call.tail, call);
    const exchange = this.#exchange(worker, id, 'POST', {
      onClaimed: () => onClaimed(worker, call),
      onUnclaimed: (why) => onUnclaimed(worker, call, why),
    });
    const offer = listener.offer(exchange, this.#claimMs(offered));
    offered.state = 'answered';
    this.#send(offered, ReplyFlag.accepted, offer);
    return call;
  }

  /** Has the frontend fetch an answer: record `index`, whose body says how long the one is that follows as a stream. */
  offer(worker: HostedWorker, call: HeldCall, answers: Envelope, index: number): void {
    const exchange = this.#exchange(worker, call.id, 'GET', {});
    exchange.answer(new Envelope(answers.pick([index])));
    this.#send(call, ReplyFlag.direct, this.#options.listener.offer(exchange, CLAIM_MS));
  }

  /** A frame of a stream; those of exchanges that are over come late. @throws RangeError when it makes no sense */
  onFrame(worker: HostedWorker, kind: number, payload: Buffer): void {
    worker.exchanges.get(keyOf(payload))?.onFrame(kind, payload.subarray(STREAM_ID_BYTES));
  }

  #send(call: HeldCall, flags: number, offer: DirectOffer): void {
    const body = JSON.stringify(offer);
    const record = { id: call.id, status: 200, flags, waitUs: 0, funcUs: 0, meta: '', body };
    this.#options.replies.send(call.batch.address, new Envelope(encodeReplies([record])));
  }

  #exchange(
    worker: HostedWorker,
    id: Buffer,
    method: 'POST' | 'GET',
    events: Pick<ExchangeOptions, 'onClaimed' | 'onUnclaimed'>,
  ): Exchange {
    const { isolate } = worker;
    if (isolate === undefined) throw new Error('a call in a worker that has not started');
    const { listener, wheel, onEnd } = this.#options;
    const key = keyOf(id);
    const exchange = new Exchange({
      ...events,
      wheel,
      backlog: listener.backlog,
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
