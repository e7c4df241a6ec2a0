import type { Broker, Delivery, OutgoingMessage } from '../core/broker/broker.ts';
import { openListener } from '../core/broker/listener.ts';
import { backoffMs } from '../core/deadline.ts';
import { FuncatronError, PROBLEM_CONTENT_TYPE, toProblem } from '../core/errors.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { carriedHeaders } from '../core/wire/carried-headers.ts';
import {
  callTopology,
  UNROUTED_DEAD_QUEUE,
  RESERVED_PREFIXES,
  UNROUTED_QUEUE,
  unroutedDeadTopology,
} from '../core/wire/topology.ts';

const PREFETCH = 64;
/** A message is tried this often as it came. An answer is then dropped, a dead letter kept without the sender's headers. */
const REFUSED_ROUNDS = 3;

/**
 * Sees to public messages that no bundle takes (`funcatron.unrouted`): who waits for an answer gets 404 NO_ROUTE, the
 * rest is kept as dead letters. Every Tron does this, leading or not. `onMessage` counts them.
 */
export function openUnrouted(options: {
  readonly broker: Broker;
  readonly log: Log;
  onMessage(outcome: 'answered' | 'dead'): void;
}): Closable {
  const { broker, log } = options;
  const stop = new AbortController();
  const listener = openListener({
    broker,
    log,
    queue: UNROUTED_QUEUE,
    topology: {
      ...callTopology,
      queues: [...(callTopology.queues ?? []), ...(unroutedDeadTopology.queues ?? [])],
    },
    consume: { prefetch: PREFETCH },
    isOwn: false,
    onDelivery(delivery) {
      settle(delivery).catch((error: unknown) => log.error({ err: error }, 'an unrouted message was not settled'));
    },
  });

  /**
   * Acknowledged only when its answer or its dead letter is safe; tried again until then. Who has no room for an
   * answer, or sends headers that cannot be encoded again, does not hold up the others.
   */
  async function settle(delivery: Delivery): Promise<void> {
    const { replyTo } = delivery.properties;
    const isAnswered = replyTo !== undefined && !RESERVED_PREFIXES.some((prefix) => replyTo.startsWith(prefix));
    let message = isAnswered ? answerTo(delivery, replyTo) : deadLetterOf(delivery);
    let refused = 0;
    for (let attempt = 0; delivery.alive && !stop.signal.aborted; attempt++) {
      const outcome = await broker.publish(message);
      if (outcome === 'refused' && ++refused === REFUSED_ROUNDS) {
        if (isAnswered) return delivery.ack();
        message = deadLetterOf(delivery, {});
      }
      if (outcome === 'accepted') {
        delivery.ack();
        options.onMessage(isAnswered ? 'answered' : 'dead');
        return;
      }
      await delay(backoffMs(attempt), stop.signal);
    }
  }

  return {
    close() {
      stop.abort();
      return listener.close();
    },
  };
}

function answerTo(delivery: Delivery, replyTo: string): OutgoingMessage {
  const { correlationId, messageId } = delivery.properties;
  const problem = toProblem(noRoute(delivery.routingKey), messageId);
  return {
    exchange: '',
    routingKey: replyTo,
    body: Buffer.from(JSON.stringify(problem)),
    properties: {
      contentType: PROBLEM_CONTENT_TYPE,
      headers: { 'fn-status': problem['status'] },
      ...(correlationId === undefined ? {} : { correlationId }),
    },
  };
}

function noRoute(routingKey: string): FuncatronError {
  return new FuncatronError('NO_ROUTE', `no bundle takes messages with the routing key ${routingKey}`, {
    data: { hint: 'the routing key is <bundle>.<operationId>; GET /v1/bundles lists the bundles' },
  });
}

/** As it came, with the reason in its headers; `headers` are those of the sender that go with it. */
function deadLetterOf(delivery: Delivery, headers = carriedHeaders(delivery.properties.headers)): OutgoingMessage {
  const { expirationMs: _expirationMs, replyTo: _replyTo, ...properties } = delivery.properties;
  return {
    exchange: '',
    routingKey: UNROUTED_DEAD_QUEUE,
    body: delivery.body,
    properties: {
      ...properties,
      persistent: true,
      headers: {
        ...headers,
        'fn-error': 'NO_ROUTE',
        'fn-error-message': noRoute(delivery.routingKey).message,
        'fn-routing-key': delivery.routingKey,
      },
    },
  };
}
