import type { MessageProperties, OutgoingMessage } from './broker.ts';
import type { Message } from './amqp-connection.ts';

/** RabbitMQ keeps `expiration` in 32 bits. */
const MAX_EXPIRATION_MS = 2 ** 32 - 1;

/** What amqplib's `publish` takes. */
interface PublishOptions extends Omit<MessageProperties, 'expirationMs'> {
  readonly expiration?: string;
  readonly mandatory?: boolean;
  readonly appId?: string;
}

/** The options of a publish. `appId` is the publisher's own mark on a mandatory message: it comes back with a return. */
export function toPublishOptions(message: OutgoingMessage, appId: string | undefined): PublishOptions {
  const { expirationMs, ...properties } = message.properties;
  return {
    ...properties,
    ...(expirationMs === undefined ? undefined : { expiration: toExpiration(expirationMs) }),
    ...(appId === undefined ? undefined : { mandatory: true, appId }),
  };
}

/** An integer ≥ 1: the broker closes the channel on anything else. */
function toExpiration(expirationMs: number): string {
  return String(expirationMs >= 1 ? Math.min(Math.trunc(expirationMs), MAX_EXPIRATION_MS) : 1);
}

/** The properties of a message as it arrived; amqplib gives every name, absent ones as `undefined`. */
export function fromMessage({ properties }: Message): MessageProperties {
  const { contentType, correlationId, replyTo, expiration, messageId, timestamp, type, headers, deliveryMode } =
    properties;
  return {
    ...(isText(contentType) ? { contentType } : undefined),
    ...(isText(correlationId) ? { correlationId } : undefined),
    ...(isText(replyTo) ? { replyTo } : undefined),
    ...(isText(expiration) ? { expirationMs: Number(expiration) } : undefined),
    ...(isText(messageId) ? { messageId } : undefined),
    ...(typeof timestamp === 'number' ? { timestamp } : undefined),
    ...(isText(type) ? { type } : undefined),
    ...(headers === undefined ? undefined : { headers }),
    persistent: deliveryMode === 2,
  };
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
