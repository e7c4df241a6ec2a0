import type { Broker, Delivery } from '../core/broker/broker.ts';
import type { ClusterClock } from '../core/clock.ts';
import { delay } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { StampClock } from '../core/stamp-clock.ts';
import { Envelope, KIND_CALLS, ReplyFlag } from '../core/wire/envelope.ts';
import { DirectCalls } from './direct/direct-calls.ts';
import type { DirectListener } from './direct/listener.ts';
import { closeOne, HeldCall, type Address, type Arrival, type Batch, type Tally } from './call.ts';
import type { CancelledIds } from './cancels.ts';
import type { CallCounts } from './call-counts.ts';
import { CallLog } from './call-log.ts';
import { stampAnswer } from './call-timing.ts';
import { Host, type HostOptions } from './host.ts';
import type { HostedWorker } from './hosted-worker.ts';
import type { Holding } from './intake.ts';
import { Losses } from './losses.ts';
import type { Replies } from './replies.ts';
import { Returns } from './returns.ts';

/** How long the answers to calls that a drain cut short may take to be confirmed. */
const CUT_SHORT_MS = 2_000;

export interface DispatchOptions {
  readonly broker: Broker;
  readonly queue: string;
  readonly replies: Replies;
  readonly listener: DirectListener;
  readonly cancelled: CancelledIds;
  readonly clock: ClusterClock;
  readonly counts: CallCounts;
  readonly log: Log;
  /** Messages of the queue that may be unacknowledged here at once, now. */
  readonly credit: () => number;
  /** Whether a call that waits for one it made lets others run in its slot: not a func that blocks its process meanwhile. */
  readonly lendsSlots: boolean;
  readonly host: Omit<HostOptions, 'events' | 'clock' | 'counts' | 'log'>;
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
  readonly #losses: Losses;
  readonly #callLog: CallLog;
  readonly #direct: DirectCalls;
  readonly #stamps = new StampClock();
  readonly #tally: Tally = { open: 0, deliveries: 0 };
  readonly #giveUp = new AbortController();
  #isDraining = false;

  constructor(options: DispatchOptions) {
    this.#options = options;
    const { broker, queue, replies, listener, clock, counts, log, events } = options;
    this.#returns = new Returns({ broker, queue, replies, clock, signal: this.#giveUp.signal });
    this.#callLog = new CallLog(counts.operations, events.onLog);
    this.#losses = new Losses({
      replies,
      returns: this.#returns,
      clock,
      counts,
      callLog: this.#callLog,
      memoryMb: options.host.spec.memoryMb,
      rerun: (batch, calls) => this.host.offerAgain(batch, calls),
    });
    this.#direct = new DirectCalls({
      listener,
      replies,
      clock,
      wheel: options.host.wheel,
      batch: (envelope, address, { arrival }) => this.#batch(envelope, address, arrival),
      onClaimed: (worker, call) => this.host.begin(worker, call),
      onUnclaimed: (worker, call, why) => this.#onUnclaimed(worker, call, why),
      onEnd: (worker) => this.host.exchanged(worker),
    });
    this.host = new Host({
      ...options.host,
      clock,
      counts,
      log,
      events: {
        ...events,
        onReplies: (worker, tag, envelope) => this.#onReplies(worker, tag, envelope),
        onStream: (worker, kind, payload) => this.#direct.onFrame(worker, kind, payload),
        onOffered: (worker, call) => this.#direct.accept(worker, call),
        onLost: (calls, exit) =>
          this.#isDraining ? this.#losses.cutShort(calls) : this.#losses.workerDied(calls, exit),
        onStuck: (calls) => this.#losses.stuck(calls),
        onUnstarted: (calls) => this.#losses.unstarted(calls),
        onRefused: (calls) => this.#losses.refused(calls),
      },
    });
  }

  /** Calls here that are not answered for good yet. */
  get inFlight(): number {
    return this.#tally.open;
  }

  /** See `Intake`. */
  get holding(): Holding {
    return { deliveries: this.#tally.deliveries, calls: this.#tally.open, room: this.host.room };
  }

  /** Bodies that are on their way between frontends and workers, or that nobody has come for yet. */
  get exchanges(): number {
    return this.#direct.open;
  }

  /** Takes a message of the revision's queue. Acknowledges it when each of its calls is answered, or safe elsewhere. */
  onDelivery(delivery: Delivery): void {
    const batch = this.#open(delivery);
    if (batch === undefined) return delivery.reject();
    if (delivery.redelivered) this.#losses.runnerDied(batch);
    else this.#start(batch);
  }

  /** Takes calls of a trigger; the answers go to its address. */
  take(envelope: Envelope, address: Address): void {
    this.#start(this.#batch(envelope, address, this.#arrival()));
  }

  /**
   * Whether calls that funcs here wait for hold up the queue: it delivers nothing more to this runner, or there is no slot
   * for what it delivers. A call of such a func's would then wait in it for those that wait for the call.
   */
  get isHeldUp(): boolean {
    if (this.#isDraining || !this.#options.lendsSlots || !this.host.hasLenders) return false;
    return this.#tally.deliveries >= this.#options.credit() || this.host.room <= 0;
  }

  /** Takes a call that a func here waits for, past the queue. */
  takeNested(envelope: Envelope, address: Address): void {
    this.#start(this.#batch(envelope, address, this.#arrival()), true);
  }

  /** Starts the calls of a batch that certainly has not run; those nobody waits for are dropped. */
  #start(batch: Batch, isNested = false): void {
    const { clock, cancelled, counts } = this.#options;
    const { envelope, address } = batch;
    const now = clock.now();
    const calls: HeldCall[] = [];
    const late: HeldCall[] = [];
    const checksCancelled = address.queue !== undefined && !cancelled.isEmpty;
    for (let index = 0; index < envelope.count; index++) {
      const tail = envelope.idTail(index);
      const held = address.calls.get(tail);
      if (held?.isOffered === true && held.state === 'answered') {
        // Its frontend has had our offer, whose confirm is still on its way here, could not reach us, and asks again.
        held.settle();
      } else if (held !== undefined) {
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
    if (late.length > 0) this.#losses.tooLate(late);
    if (calls.length === 0) return;
    if (this.#isDraining) this.#returns.giveBack(calls);
    else if (isNested) this.host.offerNested(batch, calls);
    else this.host.offer(batch, calls);
  }

  /** Calls that wait for a slot go back to the queue. */
  giveBackWaiting(): void {
    this.#losses.unstarted(this.host.takeWaiting());
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
    while (this.#tally.open + this.#direct.open > 0 && performance.now() < end) await delay(10);
  }

  #open(delivery: Delivery): Batch | undefined {
    const { replyTo } = delivery.properties;
    try {
      const envelope = new Envelope(delivery.body);
      if (envelope.kind === KIND_CALLS && envelope.count > 0 && replyTo !== undefined) {
        return this.#batch(envelope, this.#options.replies.ofQueue(replyTo), this.#arrival(), delivery);
      }
    } catch (error) {
      this.#options.log.warn({ err: error, queue: this.#options.queue }, 'dropped a message that is no envelope');
      return undefined;
    }
    const bytes = delivery.body.length;
    this.#options.log.warn({ queue: this.#options.queue, bytes }, 'dropped a message that holds no calls');
    return undefined;
  }

  #batch(envelope: Envelope, address: Address, arrival: Arrival, delivery?: Delivery): Batch {
    this.#tally.open += envelope.count;
    if (delivery !== undefined) this.#tally.deliveries++;
    return { envelope, address, delivery, tally: this.#tally, arrival, open: envelope.count };
  }

  #arrival(): Arrival {
    const ms = performance.now();
    return { ms, us: this.#stamps.stampOf(ms) };
  }

  /** Nobody brought the body of a call that had been accepted: it has not run. */
  #onUnclaimed(worker: HostedWorker, call: HeldCall, why: 'late' | 'again'): void {
    if (!this.host.giveUp(worker, call)) return;
    if (why === 'late') this.#losses.unclaimed([call]);
    else this.#options.replies.fail([call], 'RUNNER_UNREACHABLE', 'the call was offered again');
  }

  /** Answers of one worker, for calls of one address. The envelope is passed on as it is. @throws RangeError for what no worker says */
  #onReplies(worker: HostedWorker, tag: number, bytes: Buffer): void {
    const { replies, clock } = this.#options;
    const address = replies.ofTag(tag);
    if (address === undefined) return;
    const envelope = new Envelope(bytes);
    checkFlags(address, envelope);
    const now = clock.now();
    /** Only made when one of them does not leave with the others: it comes too late, or its body stays here. */
    let leaving: number[] | undefined;
    for (let index = 0; index < envelope.count; index++) {
      if (this.#answer(worker, address, envelope, index, now)) leaving?.push(index);
      else leaving ??= Array.from({ length: index }, (_, before) => before);
    }
    if (leaving === undefined) replies.send(address, envelope);
    else if (leaving.length > 0) replies.send(address, new Envelope(envelope.pick(leaving)));
    this.host.released(worker);
  }

  /** Whether the answer leaves as it came. The runner may have answered in its place; or its body is to be fetched. */
  #answer(worker: HostedWorker, address: Address, envelope: Envelope, index: number, now: number): boolean {
    const call = address.calls.get(envelope.idTail(index));
    if (call === undefined || call.state !== 'running' || call.worker !== worker) return false;
    call.state = 'answered';
    worker.running.delete(call);
    stampAnswer(call, envelope, index, this.#options.clock.offsetMs);
    this.#options.counts.answered(call.batch.envelope.operation(call.index), envelope.status(index));
    if ((envelope.replyFlags(index) & ReplyFlag.failed) !== 0) this.#callLog.refused(call, envelope, index);
    else if (call.deadline <= now) this.#callLog.ended(call, 'TIMEOUT', 'the func ended after its deadline');
    if ((envelope.replyFlags(index) & ReplyFlag.direct) === 0 || address.queue === undefined) return true;
    this.#direct.offer(worker, call, envelope, index);
    return false;
  }
}

/**
 * A worker is a stranger. Only a runner says that a call is accepted: a frontend would bring its body to whatever address
 * that names. A body follows its answer where whoever waits can fetch it.
 * @throws RangeError
 */
function checkFlags({ calls }: Address, answers: Envelope): void {
  for (let index = 0; index < answers.count; index++) {
    const flags = answers.replyFlags(index);
    if ((flags & (ReplyFlag.accepted | ReplyFlag.direct)) === 0) continue;
    const call = calls.get(answers.idTail(index));
    if ((flags & ReplyFlag.accepted) !== 0 || call?.canFetch === false)
      throw new RangeError(`an answer with flags ${flags}`);
  }
}
