import type { Broker, Delivery, OutgoingMessage } from '../core/broker/broker.ts';
import { openListener } from '../core/broker/listener.ts';
import { FuncatronError } from '../core/errors.ts';
import { newId } from '../core/id.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { callerQueue, commandTopology } from '../core/wire/topology.ts';

/** Requests this process waits for at once; more are refused. */
const MAX_WAITING = 1_000;
/** How long a request waits for the reply queue to be there. */
const OPEN_MS = 2_000;

/** Request and reply over the broker for single messages: a Tron's commands, and the public calls it makes. */
export interface Replies extends Closable {
  /**
   * Sends the message with `reply_to` and a correlation id of its own, and settles with the answer, or with
   * `undefined` when none came within `timeoutMs`.
   * @throws BROKER_DOWN when it was not accepted, OVERLOADED when too many wait
   */
  request(
    message: Omit<OutgoingMessage, 'properties'> & Partial<OutgoingMessage>,
    timeoutMs: number,
  ): Promise<Delivery | undefined>;
}

/** Opens `caller.<id>` in the background and keeps it open through reconnects. */
export function openReplies(options: { readonly broker: Broker; readonly id: string; readonly log: Log }): Replies {
  const { broker, id, log } = options;
  const queue = callerQueue(id);
  const waiting = new Map<string, (delivery: Delivery | undefined) => void>();
  const listener = openListener({
    broker,
    log,
    queue: queue.name,
    // The command queue too: a command sent before the first leader has declared it would be dropped.
    topology: { queues: [queue, ...(commandTopology.queues ?? [])] },
    isOwn: true,
    onDelivery: hear,
  });
  let closing: Promise<void> | undefined;

  function hear(delivery: Delivery): void {
    const settle = waiting.get(delivery.properties.correlationId ?? '');
    if (settle === undefined) log.debug({ bytes: delivery.body.length }, 'a reply came late and was dropped');
    else settle(delivery);
  }

  async function request(
    message: Omit<OutgoingMessage, 'properties'> & Partial<OutgoingMessage>,
    timeoutMs: number,
  ): Promise<Delivery | undefined> {
    if (waiting.size >= MAX_WAITING) {
      throw new FuncatronError('OVERLOADED', `${waiting.size} requests of this tron wait for answers already`, {
        data: { retryAfterS: 1 },
      });
    }
    const correlationId = newId();
    let timer: NodeJS.Timeout | undefined;
    // The waiter is there before the message leaves.
    const answer = new Promise<Delivery | undefined>((resolve) => {
      waiting.set(correlationId, resolve);
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    try {
      // A tron that has just started is given the time to open its queue.
      if (!listener.isOpen) await Promise.race([listener.opened, delay(Math.min(timeoutMs, OPEN_MS))]);
      const properties = { ...message.properties, correlationId, replyTo: queue.name, expirationMs: timeoutMs };
      const outcome = !listener.isOpen ? 'down' : await broker.publish({ ...message, properties });
      if (outcome === 'accepted') return await answer;
      throw new FuncatronError(
        'BROKER_DOWN',
        `the broker did not take a message for ${message.routingKey} (${outcome})`,
        {
          data: { retryAfterS: 1 },
        },
      );
    } finally {
      clearTimeout(timer);
      waiting.delete(correlationId);
    }
  }

  async function close(): Promise<void> {
    for (const settle of waiting.values()) settle(undefined);
    await listener.close();
  }

  return { request, close: () => (closing ??= close()) };
}
