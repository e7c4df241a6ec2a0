import type { Broker, OutgoingMessage } from '../../core/broker/broker.ts';
import { backoffMs } from '../../core/deadline.ts';
import type { FuncatronError } from '../../core/errors.ts';
import { delay } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import { carriedHeaders } from '../../core/wire/carried-headers.ts';
import { deadQueue, RETRY_RUNGS_MS, retryQueue, retryTopology } from '../../core/wire/topology.ts';
import { DeadHeader, RetryHeader } from './headers.ts';
import type { Incoming } from './incoming.ts';

/** A message that is refused so often is one this client cannot encode, or its queue has no room: see `#hand`. */
const REFUSED_ROUNDS = 5;

export interface EventFateOptions {
  readonly broker: Broker;
  readonly bundle: string;
  /** Longest wait between two attempts. */
  readonly backoffCapMs: number;
  readonly log: Log;
  /** Aborts when the runner cannot wait any longer; what is then unsettled, the broker delivers again. */
  readonly signal: AbortSignal;
  readonly counts: EventCounts;
}

/** What became of the events of one bundle. */
export interface EventCounts {
  done: number;
  retried: number;
  dead: number;
}

/**
 * What becomes of events that failed: another attempt later, or the dead letters. Either is confirmed by the broker
 * before the delivery is acknowledged, so nothing is lost; a crash in between makes a double with the same id.
 */
export class EventFate {
  readonly #options: EventFateOptions;
  readonly #rungs = new Set<number>();

  constructor(options: EventFateOptions) {
    this.#options = options;
  }

  /** The func is done with it. */
  done(event: Incoming): void {
    this.#options.counts.done++;
    event.delivery.ack();
  }

  /** Puts the event on a rung of the retry ladder, to come again as `attempt`. */
  async retry(event: Incoming, attempt: number): Promise<void> {
    const { bundle, backoffCapMs } = this.#options;
    const rungMs = pickRung(attempt, backoffCapMs);
    this.#options.counts.retried++;
    const message = retryMessage(event, attempt, retryQueue(bundle, rungMs));
    await this.#hand(event, () => this.#declareRung(rungMs), message);
  }

  /** Puts the event among the dead letters, with what it died of. */
  async bury(
    event: Incoming,
    error: Pick<FuncatronError, 'code' | 'message'>,
    revision: string | undefined,
  ): Promise<void> {
    const { bundle, log } = this.#options;
    const { callId, operationId, attempt } = event;
    this.#options.counts.dead++;
    log.warn({ bundle, callId, operationId, attempts: attempt, code: error.code, reason: error.message }, 'event died');
    await this.#hand(event, undefined, {
      exchange: '',
      routingKey: deadQueue(bundle),
      body: event.delivery.body,
      mandatory: true,
      properties: {
        ...kept(event),
        headers: {
          ...carriedHeaders(event.delivery.properties.headers),
          [DeadHeader.errorCode]: error.code,
          [DeadHeader.errorMessage]: error.message.slice(0, 1_024),
          [DeadHeader.attempts]: attempt,
          ...(revision === undefined ? {} : { [DeadHeader.revision]: revision }),
          [DeadHeader.operation]: operationId,
          [DeadHeader.diedAt]: new Date().toISOString(),
        },
      },
    });
  }

  /**
   * Publishes until the broker has it, then acknowledges. Ends without either when the delivery is no longer ours.
   * One that is refused again and again is left to the broker's own dead-lettering, which loses nothing but the
   * reason: it must not keep the events behind it waiting.
   */
  async #hand(event: Incoming, prepare: (() => Promise<void>) | undefined, message: OutgoingMessage): Promise<void> {
    const { broker, signal, log } = this.#options;
    const { delivery } = event;
    let refused = 0;
    for (let round = 0; delivery.alive && !signal.aborted; round++) {
      try {
        await prepare?.();
        const outcome = await broker.publish(message);
        if (outcome === 'accepted') return delivery.ack();
        if (outcome === 'refused' && ++refused === REFUSED_ROUNDS) return delivery.reject();
        log.warn(
          { queue: message.routingKey, outcome, callId: event.callId },
          'cannot hand an event on yet, trying again',
        );
      } catch (error) {
        log.warn({ err: error, queue: message.routingKey }, 'cannot declare a retry queue yet, trying again');
      }
      await delay(backoffMs(round), signal);
    }
  }

  async #declareRung(rungMs: number): Promise<void> {
    if (this.#rungs.has(rungMs)) return;
    await this.#options.broker.declare(retryTopology(this.#options.bundle, rungMs));
    this.#rungs.add(rungMs);
  }
}

/** A random rung, none longer than `2^(attempt - 2)` seconds (the first retry is attempt 2) nor than the cap: backoff with jitter. */
export function pickRung(attempt: number, capMs: number): number {
  const rungs = RETRY_RUNGS_MS.filter((rungMs, place) => place < Math.max(1, attempt - 1) && rungMs <= capMs);
  return rungs[Math.floor(Math.random() * rungs.length)] ?? RETRY_RUNGS_MS[0];
}

/** The event as its next attempt, or the same one again, for the queue it waits in. */
export function retryMessage(event: Incoming, attempt: number, queue: string): OutgoingMessage {
  return {
    exchange: '',
    routingKey: queue,
    body: event.delivery.body,
    mandatory: true,
    properties: {
      ...kept(event),
      headers: {
        ...carriedHeaders(event.delivery.properties.headers),
        [RetryHeader.attempt]: attempt,
        [RetryHeader.operation]: event.operationId,
        ...(event.deadline === undefined ? {} : { [RetryHeader.deadline]: event.deadline }),
      },
    },
  };
}

/** What stays the same on every attempt; above all the id. */
function kept({ delivery, callId }: Incoming): OutgoingMessage['properties'] {
  const { contentType, correlationId, replyTo, timestamp, type } = delivery.properties;
  return {
    persistent: true,
    messageId: callId,
    ...(contentType === undefined ? {} : { contentType }),
    ...(correlationId === undefined ? {} : { correlationId }),
    ...(replyTo === undefined ? {} : { replyTo }),
    ...(timestamp === undefined ? {} : { timestamp }),
    ...(type === undefined ? {} : { type }),
  };
}
