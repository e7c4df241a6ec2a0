import { FuncatronError } from '../errors.ts';
import type { QueueSpec } from '../wire/topology.ts';

/** What a queue's arguments mean. Limits that are not set are `Infinity`. */
export interface QueuePolicy {
  /** Keeps transient messages, too, as a quorum queue does. */
  readonly isQuorum: boolean;
  readonly maxLength: number;
  readonly maxBytes: number;
  readonly overflow: 'drop-head' | 'reject-publish';
  readonly ttlMs: number;
  readonly expiresMs: number;
  /** Returns after which a message is discarded. */
  readonly deliveryLimit: number;
  readonly deadLetter: DeadLetterPolicy | undefined;
}

export interface DeadLetterPolicy {
  readonly exchange: string;
  /** The message's own when absent. */
  readonly routingKey: string | undefined;
  /** Tried until a queue takes it (`x-dead-letter-strategy: at-least-once`), rather than once. */
  readonly isAtLeastOnce: boolean;
}

const NUMBERS = {
  'x-max-length': 0,
  'x-max-length-bytes': 0,
  'x-message-ttl': 0,
  'x-expires': 1,
  'x-delivery-limit': 0,
} as const;

/** What RabbitMQ refuses on a classic queue (406). */
const QUORUM_ONLY = ['x-delivery-limit', 'x-dead-letter-strategy'];

/**
 * Reads the arguments of a queue; those it does not know mean nothing, as in RabbitMQ.
 * @throws INTERNAL for a value RabbitMQ refuses, or one that only RabbitMQ can do
 */
export function readPolicy(spec: QueueSpec): QueuePolicy {
  const overflow = choice(spec, 'x-overflow', ['drop-head', 'reject-publish']);
  const type = choice(spec, 'x-queue-type', ['classic', 'quorum']);
  const isQuorum = type === 'quorum';
  for (const name of isQuorum ? [] : QUORUM_ONLY) {
    if (spec.arguments[name] !== undefined) throw refused(spec, name, spec.arguments[name]);
  }
  const strategy = choice(spec, 'x-dead-letter-strategy', ['at-most-once', 'at-least-once']);
  const exchange = spec.arguments['x-dead-letter-exchange'];
  const routingKey = spec.arguments['x-dead-letter-routing-key'];
  return {
    isQuorum,
    maxLength: limit(spec, 'x-max-length'),
    maxBytes: limit(spec, 'x-max-length-bytes'),
    overflow,
    ttlMs: limit(spec, 'x-message-ttl'),
    expiresMs: limit(spec, 'x-expires'),
    deliveryLimit: limit(spec, 'x-delivery-limit'),
    deadLetter:
      exchange === undefined
        ? undefined
        : {
            exchange: String(exchange),
            routingKey: routingKey === undefined ? undefined : String(routingKey),
            // RabbitMQ falls back to at-most-once where the queue itself may drop.
            isAtLeastOnce: strategy === 'at-least-once' && overflow === 'reject-publish',
          },
  };
}

function limit(spec: QueueSpec, name: keyof typeof NUMBERS): number {
  const value = spec.arguments[name];
  if (value === undefined) return Infinity;
  if (typeof value === 'number' && Number.isInteger(value) && value >= NUMBERS[name]) return value;
  throw refused(spec, name, value);
}

/** The value of an argument, of which the first choice is RabbitMQ's default. */
function choice<T extends string>(spec: QueueSpec, name: string, choices: readonly [T, ...T[]]): T {
  const value = spec.arguments[name] ?? choices[0];
  const found = choices.find((each) => each === value);
  if (found !== undefined) return found;
  throw refused(spec, name, value);
}

function refused(spec: QueueSpec, name: string, value: unknown): FuncatronError {
  return new FuncatronError(
    'INTERNAL',
    `could not declare queue "${spec.name}": the embedded broker takes no ${name} of ${JSON.stringify(value)} on it`,
  );
}
