import type { Broker, Consumer, Delivery } from '../../core/broker/broker.ts';
import type { ClusterClock } from '../../core/clock.ts';
import { backoffMs } from '../../core/deadline.ts';
import { ERRORS, FuncatronError, toFuncatronError } from '../../core/errors.ts';
import { delay, within, type Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { LogLine } from '../../core/wire/control.ts';
import { LineBudget } from '../line-budget.ts';
import { renderAnswer, type Answer } from './answer.ts';
import type { EventLeases } from './event-leases.ts';
import { EventFate, type EventCounts } from './event-fate.ts';
import { isReserved, readIncoming, type Incoming } from './incoming.ts';
import type { CallTarget } from './targets.ts';

/** How long answers and retries may take to be confirmed after a drain ran out of time. */
const CUT_SHORT_MS = 2_000;
/** Lines a second about dead events of one bundle. */
const DEAD_LINES_PER_SECOND = 50;
/** An answer its own queue refuses is tried this often: a caller that makes no room must not hold up the others. */
const REFUSED_ROUNDS = 3;
/** A public call is run once more after its runner died, if it may be at all. */
const CALL_ATTEMPTS = 2;

export interface QueueTriggerOptions {
  readonly broker: Broker;
  readonly clock: ClusterClock;
  readonly log: Log;
  readonly bundle: string;
  /** `ev.<bundle>`. */
  readonly queue: string;
  readonly prefetch: number;
  readonly maxAttempts: number;
  readonly backoffCapMs: number;
  readonly drainMs: number;
  readonly counts: EventCounts;
  readonly leases: EventLeases;
  /** A line of the bundle's own log. */
  onLog(line: Omit<LogLine, 'bundle' | 'runner'>): void;
  /** Who takes a message. @throws NOT_FOUND when the revision, alias or operation is not there; NO_RUNNER; STORE_DOWN */
  choose(incoming: Incoming): Promise<CallTarget>;
}

/**
 * The trigger `queue`: takes what anybody published to `funcatron.call` for a bundle (protocol §3). A message with
 * `reply_to` is a call and is answered there; one without is an event, retried and in the end dead-lettered. Every
 * message is acknowledged only when the broker has confirmed what became of it.
 */
export class QueueTrigger implements Closable {
  readonly #options: QueueTriggerOptions;
  readonly #fate: EventFate;
  readonly #stop = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #deadLines = new LineBudget(DEAD_LINES_PER_SECOND);
  readonly #running = new Set<Promise<void>>();
  readonly #opening: Promise<void>;
  #consumer: Consumer | undefined;
  #closing: Promise<void> | undefined;

  /** Consumes as soon as the broker lets it. */
  constructor(options: QueueTriggerOptions) {
    this.#options = options;
    this.#fate = new EventFate({ ...options, signal: this.#giveUp.signal });
    this.#opening = this.#open();
  }

  /** Takes no more messages, and finishes those it has within `drainMs`; the broker delivers the rest again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #open(): Promise<void> {
    const { broker, queue, prefetch, log } = this.#options;
    for (let attempt = 0; await broker.ready(this.#stop.signal); attempt++) {
      try {
        this.#consumer = await broker.consume(queue, { prefetch }, (delivery) => this.#take(delivery));
        return;
      } catch (error) {
        log.warn({ err: error, queue }, 'cannot consume events yet, trying again');
        await delay(backoffMs(attempt), this.#stop.signal);
      }
    }
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    await this.#opening;
    await this.#consumer?.cancel();
    await this.#finished(this.#options.drainMs);
    this.#giveUp.abort();
    await this.#finished(CUT_SHORT_MS);
  }

  async #finished(ms: number): Promise<void> {
    const all = Promise.all(this.#running).then(() => undefined);
    await within(all, ms, 'events still run').catch(() => undefined); // The bound is what was asked for.
  }

  #take(delivery: Delivery): void {
    const done = this.#handle(delivery)
      .catch((error: unknown) => {
        // A defect: the broker keeps an event that failed by one among the dead letters.
        this.#options.log.error({ err: error, routingKey: delivery.routingKey }, 'a message met a defect');
        delivery.reject();
      })
      .finally(() => this.#running.delete(done));
    this.#running.add(done);
  }

  async #handle(delivery: Delivery): Promise<void> {
    const { bundle, clock } = this.#options;
    let incoming = readIncoming(bundle, delivery, clock.now());
    const { replyTo } = incoming;
    if (replyTo !== undefined && isReserved(replyTo)) {
      const message = `reply_to ${replyTo} begins with a reserved prefix`;
      return this.#bury(incoming, new FuncatronError('INVALID_REQUEST', message), undefined);
    }
    let answer: Answer;
    let target: CallTarget | undefined;
    try {
      target = await this.#options.choose(incoming);
      this.#refuseWorn(incoming, target);
      if (target.outlastsDelivery && replyTo === undefined) {
        incoming = await this.#options.leases.hold(incoming, bundle, target.revision);
      }
      answer = await target.run(incoming);
    } catch (error) {
      answer = { error: toFuncatronError(error) };
    }
    if (replyTo !== undefined) return this.#reply(incoming, replyTo, answer);
    return this.#settleEvent(incoming, answer, target?.revision);
  }

  /** Messages whose runner died with them have run, or may have. */
  #refuseWorn(incoming: Incoming, target: CallTarget): void {
    const { attempt, replyTo } = incoming;
    if (replyTo === undefined) {
      if (attempt > this.#options.maxAttempts)
        throw new FuncatronError('RUNNER_LOST', 'the runner died with the event');
      return;
    }
    if (attempt > CALL_ATTEMPTS)
      throw new FuncatronError('FUNC_CRASHED', 'the runner died with this call more than once');
    if (attempt > 1 && !target.mayRerun) {
      throw new FuncatronError('RUNNER_LOST', 'the runner died while it held the call');
    }
  }

  /** Answers until the caller has it, is gone, has no room, or no longer waits. */
  async #reply(incoming: Incoming, replyTo: string, answer: Answer): Promise<void> {
    const { broker, clock, log, bundle } = this.#options;
    const { delivery, callId, deadline } = incoming;
    let refused = 0;
    const { body, properties } = renderAnswer(answer, callId, delivery.properties.correlationId);
    const message = { exchange: '', routingKey: replyTo, body, properties, mandatory: true };
    for (let round = 0; delivery.alive && !this.#giveUp.signal.aborted; round++) {
      const outcome = await broker.publish(message);
      if (outcome === 'accepted' || outcome === 'returned') return delivery.ack();
      if (outcome === 'refused' && ++refused === REFUSED_ROUNDS) {
        log.debug({ bundle, callId, replyTo }, 'the queue of a caller takes no answer; it is dropped');
        return delivery.ack();
      }
      if (deadline !== undefined && clock.now() > deadline) return delivery.ack();
      await delay(backoffMs(round, 20), this.#giveUp.signal);
    }
  }

  /** Done → acknowledged; refused (4xx) → dead; failed → again, unless it was the last attempt. */
  async #settleEvent(event: Incoming, answer: Answer, revision: string | undefined): Promise<void> {
    const status = answer.error === undefined ? answer.status : answer.error.status;
    if (status < 400) return this.#fate.done(event);
    const error = answer.error ?? new FuncatronError('FUNC_ERROR', `the func answered ${status}`);
    const neverRan = answer.error !== undefined && !ERRORS[answer.error.code].mayHaveRun;
    const isLate = event.deadline !== undefined && event.deadline <= this.#options.clock.now();
    if (status < 500 || isLate) return this.#bury(event, error, revision);
    if (neverRan) return this.#fate.retry(event, event.attempt);
    if (event.attempt >= this.#options.maxAttempts) return this.#bury(event, error, revision);
    return this.#fate.retry(event, event.attempt + 1);
  }

  #bury(event: Incoming, error: FuncatronError, revision: string | undefined): Promise<void> {
    const { operationId, callId, attempt } = event;
    if (this.#deadLines.take()) {
      const dropped = this.#deadLines.takeDropped();
      const message = `dead-lettered at attempt ${attempt}: ${error.code}: ${error.message}`;
      const { problems } = error.data;
      this.#options.onLog({
        time: Date.now(),
        level: 'error',
        message,
        revision: revision ?? '',
        operationId,
        callId,
        ...(problems === undefined ? {} : { fields: { problems: problems.slice(0, 10) } }),
        ...(dropped > 0 ? { dropped } : {}),
      });
    }
    return this.#fate.bury(event, error, revision);
  }
}
