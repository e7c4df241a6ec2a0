import type { Delivery, PublishOutcome } from '../core/broker/broker.ts';
import { CallFlag, encodeCalls, Envelope } from '../core/wire/envelope.ts';
import type { HostedWorker } from './hosted-worker.ts';

/** Where answers go: a frontend's reply queue, or a trigger in this process. Its `tag` stands for it on the way through a worker. */
export interface Address {
  readonly tag: number;
  /** The reply queue; absent for a trigger. */
  readonly queue: string | undefined;
  /** Calls held for it, by the last 32 bits of their ids: unique, because those count up within the process that made them. */
  readonly calls: Map<number, HeldCall>;
  /**
   * Sends answers on, unopened. `accepted`: they are safe, their deliveries may be acknowledged. Otherwise nobody will
   * ever have them: the address is gone, or the last of their deadlines has passed.
   */
  deliver(answers: Envelope): Promise<PublishOutcome>;
}

/** Calls that came in one message, and how many of them are still to be answered for good before it is acknowledged. */
export interface Batch {
  readonly envelope: Envelope;
  readonly address: Address;
  readonly delivery: Delivery | undefined;
  readonly tally: Tally;
  readonly arrival: Arrival;
  open: number;
}

/** When calls came to this runner: `performance.now()`, and its stamp by the clock of this machine (0: nobody knows). */
export interface Arrival {
  readonly ms: number;
  readonly us: number;
}

/** Calls of one revision that came here and are not settled yet, and the deliveries that brought them and are not acknowledged. */
export interface Tally {
  open: number;
  deliveries: number;
}

/**
 * One call this runner holds, from its arrival until its answer is safe.
 *
 * `waiting` (for a slot) → `running` (in a worker) → `answered` (the answer is on its way) → settled.
 * `running` → `waiting` when its worker died and it may be run again. `waiting` → settled when it is given back to its
 * queue, or cancelled.
 */
export class HeldCall {
  batch: Batch;
  /** Its record in the batch's envelope. */
  readonly index: number;
  attempt: number;
  state: 'waiting' | 'running' | 'answered' | 'settled' = 'waiting';
  worker: HostedWorker | undefined;
  /** `performance.now()` when it was given to a worker, the last one (0: it was not), and what of its wait was the start of that. */
  startedAt = 0;
  coldMs = 0;
  /** Calls by `context.invoke` that its func waits for: while there are any, it lends its slot to others of them. */
  invokes = 0;
  /** The same call, delivered again while it is held here: acknowledged together with it. */
  twins: Batch[] | undefined;

  constructor(batch: Batch, index: number) {
    this.batch = batch;
    this.index = index;
    this.attempt = batch.envelope.attempt(index);
  }

  get id(): Buffer {
    return this.batch.envelope.id(this.index);
  }

  get tail(): number {
    return this.batch.envelope.idTail(this.index);
  }

  /** Unix ms, cluster time. */
  get deadline(): number {
    return this.batch.envelope.deadline(this.index);
  }

  get mayRerun(): boolean {
    return (this.batch.envelope.callFlags(this.index) & CallFlag.mayRerun) !== 0;
  }

  /** It came without its body: a frontend waits to be told where that is wanted. */
  get isOffered(): boolean {
    return (
      (this.batch.envelope.callFlags(this.index) & CallFlag.direct) !== 0 && this.batch.address.queue !== undefined
    );
  }

  /** Whoever waits for its answer takes a body that follows it. */
  get canFetch(): boolean {
    return (this.batch.envelope.callFlags(this.index) & CallFlag.fetches) !== 0;
  }

  /** Nobody waits for it any more: aborts it when it runs, drops it when it still waits. A trigger always gets its answer. */
  cancel(): void {
    if (this.state === 'running') this.worker?.isolate?.cancel(this.id);
    else if (this.state === 'waiting' && this.batch.address.queue !== undefined) this.settle();
  }

  /**
   * Forgets the call; acknowledges its delivery when it was the last one of it. It lets go of the batch: a settled call
   * stays reachable for a while from the old tables a `Map` leaves behind as it is rehashed (see `RpcCall.release`), and
   * with the messages they carried that made half of a busy runner's CPU time collections of the whole heap.
   */
  settle(): void {
    const { batch, twins, tail } = this;
    const { calls } = batch.address;
    if (calls.get(tail) === this) calls.delete(tail);
    this.state = 'settled';
    this.batch = SETTLED;
    this.worker = undefined;
    this.twins = undefined;
    closeOne(batch);
    if (twins !== undefined) for (const twin of twins) closeOne(twin);
  }
}

const SETTLED: Batch = {
  envelope: new Envelope(encodeCalls([])),
  address: { tag: 0, queue: undefined, calls: new Map(), deliver: () => Promise.resolve('returned') },
  delivery: undefined,
  tally: { open: 0, deliveries: 0 },
  arrival: { ms: 0, us: 0 },
  open: 0,
};

/** One call less to answer; the last one acknowledges the delivery. */
export function closeOne(batch: Batch): void {
  batch.open--;
  batch.tally.open--;
  if (batch.open > 0 || batch.delivery === undefined) return;
  batch.tally.deliveries--;
  batch.delivery.ack();
}

/** Calls that can travel together: of one batch, and the same attempt. */
export function groupCalls(calls: readonly HeldCall[]): readonly (readonly [Batch, HeldCall[]])[] {
  const groups: [Batch, HeldCall[]][] = [];
  for (const call of calls) {
    const group = groups.find(([batch, [first]]) => batch === call.batch && first?.attempt === call.attempt);
    if (group === undefined) groups.push([call.batch, [call]]);
    else group[1].push(call);
  }
  return groups;
}
