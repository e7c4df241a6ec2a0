import { TimerWheel } from '../deadline.ts';
import { ID_BYTES } from '../id.ts';
import type { Closable } from '../lifecycle.ts';
import type { Log } from '../log.ts';
import { CallFlag, encodeCalls, type CallRecord, type Envelope } from '../wire/envelope.ts';
import { cancelExchange } from '../wire/topology.ts';
import { Cancels } from './cancels.ts';
import { RpcCall, RpcTarget, type Lane, type RpcCaller, type RpcFailure } from './batch.ts';
import type { Broker, BrokerChange, PublishOutcome } from './broker.ts';
import { createReplyAddress, type ReplyAddress } from './reply-address.ts';

export interface RpcOptions {
  readonly broker: Broker;
  /** Replies come to `reply.<id>`: new for every process. */
  readonly id: string;
  /** Deadlines are times of this clock. */
  readonly clock: { now(): number };
  readonly log: Log;
  readonly limits: RpcLimits;
}

export interface RpcLimits {
  readonly maxInFlight: number;
  readonly maxInFlightBytes: number;
}

/** What an `Rpc` counted since it was opened. */
export interface RpcCounts {
  /** Replies nobody waited for any more; dropped. */
  lateReplies: number;
  /** Calls sent again because the broker lost them. */
  reruns: number;
  /** Messages that carried calls. */
  batches: number;
  /** Calls they carried. */
  calls: number;
}

/**
 * So large a part of the calls in flight does not wait for the message before it to be confirmed: a quarter. Without
 * that, all calls of a frontend came to travel in one convoy, and every part of the way stood still while the others
 * had it (64 connections: 23 → 31 calls a message, RabbitMQ 12.6 → 9.9, runner 10.5 → 7.2 µs a call, +5 to +19 %
 * calls/s; a half or an eighth: +14 and +16 where a quarter made +19).
 */
const MESSAGES_IN_FLIGHT = 4;

/**
 * Request and reply over the broker (protocol §1). Calls for one queue leave in one message when they are made in one
 * turn of the event loop, in turns that follow one another, or before the broker has confirmed the message before, as
 * long as they are few of those in flight: the busier this process and the broker, the fewer and fuller the messages. No
 * timer makes a call wait, and a full message leaves at once. The waiter is registered before its call is published.
 */
export class Rpc implements Closable {
  readonly counts: RpcCounts = { lateReplies: 0, reruns: 0, batches: 0, calls: 0 };
  readonly #broker: Broker;
  readonly #clock: { now(): number };
  readonly #log: Log;
  readonly #limits: RpcLimits;
  readonly #address: ReplyAddress;
  readonly #wheel = new TimerWheel();
  readonly #waiting = new Map<number, RpcCall>();
  #inFlightBytes = 0;
  #due: Lane[] = [];
  readonly #cancels: Cancels;
  #flushDue = false;
  /** Calls in flight when replies come: the most of late, forgotten by an eighth with each message of them. */
  #load = 0;
  #closing: Promise<void> | undefined;
  #stopListening: (() => void) | undefined;
  readonly #onExpire = (call: RpcCall): void => this.#abandon(call, 'timeout');
  readonly #onFlush = (): void => this.#flush();

  constructor(options: RpcOptions) {
    this.#broker = options.broker;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#limits = options.limits;
    this.#cancels = new Cancels(options.broker);
    this.#address = createReplyAddress({
      broker: options.broker,
      id: options.id,
      log: options.log,
      exchange: cancelExchange,
      onReplies: (envelope) => this.#onReplies(envelope),
    });
  }

  /** Opens the reply queue in the background and keeps it open; until it is, calls end as `down`. */
  start(): void {
    this.#stopListening ??= this.#broker.onState((change) => this.#onState(change));
    this.#address.open();
  }

  /** Calls that wait for their reply. */
  get inFlight(): number {
    return this.#waiting.size;
  }

  /** Whether a call made now would be published: the broker is there, takes messages, and replies would be heard. */
  get isReady(): boolean {
    return this.#broker.state === 'ready' && this.#address.isOpen;
  }

  /**
   * Makes a call; the caller hears how it ended. When it cannot even be gathered (`down`, `refused`), `onFailure` is
   * called before this returns. Meta and body must not change afterwards.
   */
  call(target: RpcTarget, record: Omit<CallRecord, 'attempt'>, caller: RpcCaller): RpcCall {
    const call = new RpcCall(target, record, caller, this.#onExpire);
    if (!this.isReady || this.#closing !== undefined) return fail(call, 'down');
    if (this.#waiting.size >= this.#limits.maxInFlight) return fail(call, 'refused');
    if (this.#inFlightBytes + call.bytes > this.#limits.maxInFlightBytes) return fail(call, 'refused');
    const remainingMs = record.deadline - this.#clock.now();
    this.#waiting.set(call.tail, call);
    this.#inFlightBytes += call.bytes;
    this.#wheel.add(call, remainingMs);
    this.#gather(call, remainingMs);
    return call;
  }

  /** Nobody waits for this call any more: its caller hears nothing, and runners are told. Does nothing when it has ended. */
  cancel(call: RpcCall): void {
    this.#abandon(call, undefined);
  }

  /** Calls still in flight end as `unknown`; then the reply queue goes. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stopListening?.();
    for (const call of this.#waiting.values()) this.#abandon(call, 'unknown');
    this.#flush();
    this.#wheel.close();
    await this.#address.close();
  }

  #gather(call: RpcCall, remainingMs: number): void {
    const lane = call.target.lane(remainingMs);
    lane.add(call);
    if (lane.isFull) return this.#publish(lane);
    if (this.#mayLeave(lane)) this.#flushLane(lane);
  }

  /**
   * Calls wait for the broker to confirm the message before theirs, so that they share one; but not for long when they
   * are many of those in flight: while they wait, the queue, the runners and the workers have nothing to do.
   */
  #mayLeave(lane: Lane): boolean {
    return lane.unconfirmed === 0 || lane.size * MESSAGES_IN_FLIGHT >= this.#load;
  }

  #flushLane(lane: Lane): void {
    if (lane.isDue) return;
    lane.isDue = true;
    this.#due.push(lane);
    this.#flushSoon();
  }

  /**
   * At the end of the turn: the poll phase has then read every socket, which a microtask would not wait for. A call
   * that is alone has nobody to wait for, and leaves one iteration of the event loop earlier.
   */
  #flushSoon(): void {
    if (this.#flushDue) return;
    this.#flushDue = true;
    if (this.#isAlone) process.nextTick(this.#onFlush);
    else setImmediate(this.#onFlush);
  }

  /** One call, and not the first to come back of many that were answered together. */
  get #isAlone(): boolean {
    return this.#waiting.size === 1 && this.#load < 2;
  }

  /** A lane that is still growing has another turn. */
  #flush(): void {
    this.#flushDue = false;
    const due = this.#due;
    this.#due = [];
    for (const lane of due) {
      if (!this.#isAlone && lane.isGrowing()) {
        this.#due.push(lane);
        continue;
      }
      lane.isDue = false;
      if (this.#mayLeave(lane)) this.#publish(lane);
    }
    if (this.#due.length > 0) this.#flushSoon();
    this.#cancels.publish();
  }

  #publish(lane: Lane): void {
    const calls = lane.take();
    if (calls.length === 0) return;
    const now = this.#clock.now();
    let remainingMs = 1;
    for (const call of calls) {
      call.state = 'published';
      call.batch = calls;
      if (call.deadline - now > remainingMs) remainingMs = Math.ceil(call.deadline - now);
    }
    lane.unconfirmed++;
    this.counts.batches++;
    this.counts.calls += calls.length;
    void this.#broker
      .publish({
        exchange: '',
        routingKey: lane.target.queue,
        body: encodeCalls(calls),
        properties: {
          type: 'calls',
          contentType: 'application/x-funcatron',
          replyTo: this.#address.queue,
          expirationMs: remainingMs,
        },
        mandatory: true,
      })
      .then((outcome) => this.#onPublished(lane, calls, outcome));
  }

  /** `lost`: the broker may have it, so its reply is waited for; what became of it shows when the broker is back. */
  #onPublished(lane: Lane, calls: readonly RpcCall[], outcome: PublishOutcome): void {
    lane.unconfirmed--;
    if (lane.unconfirmed === 0 && lane.size > 0) this.#flushLane(lane);
    if (outcome === 'accepted' || outcome === 'lost') return;
    for (const call of calls) {
      if (call.batch !== calls) continue;
      // What was sent before may have run: only a first attempt can be told that it did not.
      this.#settle(call, call.attempt > 1 && outcome !== 'returned' ? 'unknown' : outcome);
    }
  }

  #onReplies(envelope: Envelope): void {
    this.#load = Math.max(this.#waiting.size, this.#load - this.#load / 8);
    for (let index = 0; index < envelope.count; index++) {
      const call = this.#waiting.get(envelope.idTail(index));
      const at = envelope.recordAt(index);
      if (call === undefined || call.id.compare(envelope.buffer, at, at + ID_BYTES) !== 0) {
        this.counts.lateReplies++;
        continue;
      }
      this.#remove(call).onReply(envelope, index);
    }
  }

  #onState(change: BrokerChange): void {
    if (change.restarted === undefined || this.#waiting.size === 0) return;
    const published = this.#waiting.values().filter((call) => call.state === 'published');
    const lost = Map.groupBy(published, (call) => call.target.queue);
    for (const [queue, calls] of lost) {
      if (change.restarted) this.#onLost(queue, calls);
      else void this.#probe(queue, calls);
    }
  }

  /** The connection came back to the same broker: only a queue that is gone took its calls with it. */
  async #probe(queue: string, calls: readonly RpcCall[]): Promise<void> {
    const batches = new Set(calls.map((call) => call.batch));
    try {
      if ((await this.#broker.probe(queue)) !== undefined) return;
    } catch (error) {
      this.#log.warn({ err: error, queue }, 'cannot ask for a work queue after a reconnect; its calls go on waiting');
      return;
    }
    this.#onLost(
      queue,
      calls.filter((call) => batches.has(call.batch)),
    );
  }

  /** The broker has forgotten these calls, or their replies (protocol §1.11). */
  #onLost(queue: string, calls: readonly RpcCall[]): void {
    let reruns = 0;
    for (const call of calls) {
      if (call.state === 'settled') continue;
      if ((call.flags & CallFlag.mayRerun) === 0) {
        this.#settle(call, 'unknown');
        continue;
      }
      call.attempt++;
      call.state = 'gathered';
      call.batch = undefined;
      this.#gather(call, call.deadline - this.#clock.now());
      reruns++;
    }
    this.counts.reruns += reruns;
    this.#log.warn(
      { queue, calls: calls.length, reruns },
      'the broker lost calls; those that may run twice are sent again',
    );
  }

  #abandon(call: RpcCall, failure: RpcFailure | undefined): void {
    if (call.state === 'settled') return;
    if (call.state === 'published') {
      this.#cancels.add(call.id);
      this.#flushSoon();
    }
    if (failure === undefined) this.#remove(call);
    else this.#settle(call, failure);
  }

  #settle(call: RpcCall, failure: RpcFailure): void {
    this.#remove(call).onFailure(failure);
  }

  #remove(call: RpcCall): RpcCaller {
    this.#wheel.remove(call);
    this.#waiting.delete(call.tail);
    this.#inFlightBytes -= call.bytes;
    return call.release();
  }
}

function fail(call: RpcCall, failure: RpcFailure): RpcCall {
  call.release().onFailure(failure);
  return call;
}

/** An `Rpc` that has begun to open its reply queue; it does not wait for the broker. */
export function openRpc(options: RpcOptions): Rpc {
  const rpc = new Rpc(options);
  rpc.start();
  return rpc;
}
