import type { Broker, Delivery } from '../core/broker/broker.ts';
import type { ClusterClock } from '../core/clock.ts';
import { delay } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { Envelope, KIND_CALLS } from '../core/wire/envelope.ts';
import { closeOne, HeldCall, type Address, type Batch, type Tally } from './call.ts';
import type { CancelledIds } from './cancels.ts';
import type { CallCounts } from './call-counts.ts';
import { Host, type HostOptions } from './host.ts';
import type { HostedWorker } from './hosted-worker.ts';
import type { Replies } from './replies.ts';
import { Returns } from './returns.ts';

/** A call that died with its runner or worker this many times is not run again. */
const MAX_ATTEMPTS = 2;
/** How long the answers to calls that a drain cut short may take to be confirmed. */
const CUT_SHORT_MS = 2_000;

export interface DispatchOptions {
  readonly broker: Broker;
  readonly queue: string;
  readonly replies: Replies;
  readonly cancelled: CancelledIds;
  readonly clock: ClusterClock;
  readonly counts: CallCounts;
  readonly log: Log;
  readonly host: Omit<HostOptions, 'events' | 'clock' | 'log'>;
  readonly events: Pick<HostOptions['events'], 'onLog' | 'onOperation' | 'onChange'>;
}

/**
 * The way of a call through the runner: delivery → worker → answer → confirm → ack. It reads the fixed-size records of
 * an envelope and passes metas and bodies on unopened, in both directions.
 */
export class Dispatch {
  readonly host: Host;
  readonly #options: DispatchOptions;
  readonly #returns: Returns;
  readonly #tally: Tally = { open: 0 };
  readonly #giveUp = new AbortController();
  #isDraining = false;

  constructor(options: DispatchOptions) {
    this.#options = options;
    const { broker, queue, replies, clock, log, events } = options;
    this.#returns = new Returns({ broker, queue, replies, clock, signal: this.#giveUp.signal });
    this.host = new Host({
      ...options.host,
      clock,
      log,
      events: {
        ...events,
        onReplies: (worker, tag, envelope) => this.#onReplies(worker, tag, envelope),
        onLost: (calls, reason) => this.#onLost(calls, reason),
        onStuck: (calls) => replies.fail(calls, 'TIMEOUT', 'the func did not end before its deadline'),
        onUnstarted: (calls) => this.#giveBack(calls),
      },
    });
  }

  /** Calls here that are not answered for good yet. */
  get inFlight(): number {
    return this.#tally.open;
  }

  /** Takes a message of the revision's queue. Acknowledges it when each of its calls is answered, or safe elsewhere. */
  onDelivery(delivery: Delivery): void {
    const batch = this.#open(delivery);
    if (batch === undefined) return delivery.reject();
    if (delivery.redelivered) this.#afterLoss(batch);
    else this.#start(batch);
  }

  /** Takes calls of a trigger; the answers go to its address. */
  take(envelope: Envelope, address: Address): void {
    this.#start(this.#batch(envelope, address));
  }

  /** Starts the calls of a batch that certainly has not run; those nobody waits for are dropped. */
  #start(batch: Batch): void {
    const { clock, cancelled, counts } = this.#options;
    const { envelope, address } = batch;
    const now = clock.now();
    const calls: HeldCall[] = [];
    const late: HeldCall[] = [];
    const checksCancelled = address.queue !== undefined && !cancelled.isEmpty;
    for (let index = 0; index < envelope.count; index++) {
      const tail = envelope.idTail(index);
      const held = address.calls.get(tail);
      if (held !== undefined) {
        (held.twins ??= []).push(batch);
        continue;
      }
      if (checksCancelled && cancelled.has(envelope.id(index))) {
        counts.cancelled++;
        closeOne(batch);
        continue;
      }
      const call = new HeldCall(batch, index);
      address.calls.set(tail, call);
      (envelope.deadline(index) > now ? calls : late).push(call);
    }
    if (late.length > 0) this.#tooLate(late);
    if (calls.length === 0) return;
    if (this.#isDraining) this.#returns.giveBack(calls);
    else this.host.offer(batch, calls);
  }

  /** Calls that wait for a slot go back to the queue. */
  giveBackWaiting(): void {
    this.#giveBack(this.host.takeWaiting());
  }

  /**
   * Starts nothing from now on: what has not been started goes back to the queue. Settles when what has been started
   * is answered and confirmed, or after `drainMs`; then ends the workers.
   */
  async drain(drainMs: number): Promise<void> {
    this.#isDraining = true;
    this.giveBackWaiting();
    await this.#emptied(drainMs);
    await this.host.close();
    await this.#emptied(CUT_SHORT_MS);
    this.#giveUp.abort();
  }

  async #emptied(ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (this.#tally.open > 0 && performance.now() < end) await delay(10);
  }

  #open(delivery: Delivery): Batch | undefined {
    const { replyTo } = delivery.properties;
    try {
      const envelope = new Envelope(delivery.body);
      if (envelope.kind === KIND_CALLS && envelope.count > 0 && replyTo !== undefined) {
        return this.#batch(envelope, this.#options.replies.ofQueue(replyTo), delivery);
      }
    } catch {
      // Not an envelope of this version; said below.
    }
    this.#options.log.warn(
      { queue: this.#options.queue, bytes: delivery.body.length },
      'dropped a message that holds no calls',
    );
    return undefined;
  }

  #batch(envelope: Envelope, address: Address, delivery?: Delivery): Batch {
    this.#tally.open += envelope.count;
    return { envelope, address, delivery, tally: this.#tally, open: envelope.count };
  }

  /** Answers of one worker, for calls of one address. The envelope is passed on as it is. */
  #onReplies(worker: HostedWorker, tag: number, bytes: Buffer): void {
    const { replies } = this.#options;
    const address = replies.ofTag(tag);
    if (address === undefined) return;
    const envelope = new Envelope(bytes);
    /** Only made when an answer comes too late: the runner has answered in its place. */
    let inTime: number[] | undefined;
    for (let index = 0; index < envelope.count; index++) {
      if (this.#answer(worker, address, envelope, index)) inTime?.push(index);
      else inTime ??= Array.from({ length: index }, (_, before) => before);
    }
    if (inTime === undefined) replies.send(address, envelope);
    else if (inTime.length > 0) replies.send(address, new Envelope(envelope.pick(inTime)));
    this.host.released(worker);
  }

  #answer(worker: HostedWorker, address: Address, envelope: Envelope, index: number): boolean {
    const call = address.calls.get(envelope.idTail(index));
    if (call === undefined || call.state !== 'running' || call.worker !== worker) return false;
    call.state = 'answered';
    worker.running.delete(call);
    this.#options.counts.answered(call.batch.envelope.operation(call.index), envelope.status(index));
    return true;
  }

  /** A batch some runner died with (protocol §1.6): it may have run. */
  #afterLoss(batch: Batch): void {
    const { replies, counts, clock } = this.#options;
    const { envelope, address } = batch;
    const again: HeldCall[] = [];
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
      else if (call.mayRerun) again.push(call);
      else lost.push(call);
    }
    if (late.length > 0) this.#tooLate(late);
    if (poison.length > 0) replies.fail(poison, 'FUNC_CRASHED', 'the runner died with this call more than once');
    if (lost.length > 0) replies.fail(lost, 'RUNNER_LOST', 'the runner died while it held the call');
    for (const call of again) {
      call.attempt++;
      this.#returns.giveBack([call]);
    }
  }

  /** The worker died: what may run again does so once, in a fresh worker (protocol §1.13), or elsewhere. */
  #onLost(calls: readonly HeldCall[], reason: string): void {
    const { replies, clock, counts } = this.#options;
    if (this.#isDraining) return this.#onCutShort(calls);
    const again = new Map<Batch, HeldCall[]>();
    const crashed: HeldCall[] = [];
    const late: HeldCall[] = [];
    const now = clock.now();
    for (const call of calls) {
      call.worker = undefined;
      if (call.deadline <= now) late.push(call);
      else if (!call.mayRerun || call.attempt >= MAX_ATTEMPTS) crashed.push(call);
      else {
        call.state = 'waiting';
        call.attempt++;
        counts.rerun++;
        const list = again.get(call.batch);
        if (list === undefined) again.set(call.batch, [call]);
        else list.push(call);
      }
    }
    if (late.length > 0) this.#tooLate(late);
    if (crashed.length > 0) replies.fail(crashed, 'FUNC_CRASHED', `the worker died while it ran the func (${reason})`);
    for (const [batch, list] of again) this.host.offerAgain(batch, list);
  }

  /** The drain took too long and the workers were ended. */
  #onCutShort(calls: readonly HeldCall[]): void {
    const again = calls.filter(
      ({ batch, mayRerun, attempt }) => batch.address.queue !== undefined && mayRerun && attempt < MAX_ATTEMPTS,
    );
    const lost = calls.filter((call) => !again.includes(call));
    if (lost.length > 0) this.#options.replies.fail(lost, 'RUNNER_LOST', 'the runner stopped before the func ended');
    for (const call of again) {
      call.attempt++;
      this.#returns.giveBack([call]);
    }
  }

  /** Calls that waited too long for a slot here. */
  #giveBack(calls: readonly HeldCall[]): void {
    const now = this.#options.clock.now();
    const late = calls.filter((call) => call.deadline <= now);
    if (late.length > 0) this.#tooLate(late);
    this.#returns.giveBack(calls.filter((call) => call.deadline > now));
  }

  #tooLate(calls: readonly HeldCall[]): void {
    this.#options.counts.expired += calls.length;
    this.#options.replies.fail(calls, 'TIMEOUT', 'the deadline passed before the call was answered');
  }
}
