/**
 * Every exchange and queue, its name and its arguments: the only place that knows them.
 * Arguments are constants of the wire version: RabbitMQ refuses a redeclaration with other ones (406), so changing
 * one means changing the name's prefix.
 */

/** A queue as it is declared. */
export interface QueueSpec {
  readonly name: string;
  readonly durable: boolean;
  readonly arguments: Readonly<Record<string, string | number | boolean>>;
}

/** An exchange as it is declared. */
export interface ExchangeSpec {
  readonly name: string;
  readonly type: 'topic' | 'fanout' | 'direct';
  readonly durable: boolean;
  readonly arguments: Readonly<Record<string, string | number | boolean>>;
}

/** A binding as it is declared. */
export interface BindingSpec {
  readonly exchange: string;
  readonly queue: string;
  readonly key: string;
}

/** Something a part needs to exist; declaring it again changes nothing. */
export interface Topology {
  readonly exchanges?: readonly ExchangeSpec[];
  readonly queues?: readonly QueueSpec[];
  readonly bindings?: readonly BindingSpec[];
}

export const CALL_EXCHANGE = 'funcatron.call';
export const STATE_EXCHANGE = 'funcatron.state';
const CANCEL_EXCHANGE = 'funcatron.cancel';
export const LOG_EXCHANGE = 'funcatron.log';
export const REPORT_QUEUE = 'funcatron.report';
export const COMMAND_QUEUE = 'funcatron.command';
const UNROUTED_EXCHANGE = 'funcatron.unrouted';
export const UNROUTED_QUEUE = 'funcatron.unrouted';
export const UNROUTED_DEAD_QUEUE = 'funcatron.unrouted.dead';

/** What queue names begin with that nobody outside may name in `reply_to`. */
export const RESERVED_PREFIXES = ['fn.', 'ev.', 'dead.', 'reply.', 'funcatron.'] as const;

const MiB = 1024 * 1024;

const quorum = { 'x-queue-type': 'quorum' } as const;

/** `funcatron.call` with its alternate exchange and the queue behind that: an unroutable publish is otherwise confirmed and dropped. */
export const callTopology: Topology = {
  exchanges: [
    { name: UNROUTED_EXCHANGE, type: 'fanout', durable: true, arguments: {} },
    { name: CALL_EXCHANGE, type: 'topic', durable: true, arguments: { 'alternate-exchange': UNROUTED_EXCHANGE } },
  ],
  queues: [
    {
      name: UNROUTED_QUEUE,
      durable: true,
      arguments: { ...quorum, 'x-max-length': 100_000, 'x-overflow': 'reject-publish' },
    },
  ],
  bindings: [{ exchange: UNROUTED_EXCHANGE, queue: UNROUTED_QUEUE, key: '' }],
};

/** Snapshots, to every runner and frontend. */
export const stateExchange: ExchangeSpec = { name: STATE_EXCHANGE, type: 'fanout', durable: true, arguments: {} };
/** Ids of abandoned calls, to every runner. */
export const cancelExchange: ExchangeSpec = { name: CANCEL_EXCHANGE, type: 'fanout', durable: true, arguments: {} };
/** Log lines by `<bundle>.<level>`, to every Tron. */
export const logExchange: ExchangeSpec = { name: LOG_EXCHANGE, type: 'topic', durable: true, arguments: {} };

/** Reports live 10 s and the oldest go first: only what is true now counts. */
export const reportTopology: Topology = {
  queues: [
    {
      name: REPORT_QUEUE,
      durable: true,
      arguments: { 'x-message-ttl': 10_000, 'x-max-length': 10_000, 'x-overflow': 'drop-head' },
    },
  ],
};

/** `fn.<bundle>.<revision>`: sync calls, bounded, refusing when full, gone 10 minutes after its last user. */
export function callQueue(bundle: string, revision: string): QueueSpec {
  return {
    name: `fn.${bundle}.${revision}`,
    durable: true,
    arguments: {
      'x-max-length': 10_000,
      'x-max-length-bytes': 256 * MiB,
      'x-overflow': 'reject-publish',
      'x-expires': 600_000,
    },
  };
}

/** `reply.<id>`: replies for one frontend (or other caller); outlives a dropped connection by 60 s. */
export function replyQueue(id: string): QueueSpec {
  return { name: `reply.${id}`, durable: true, arguments: { 'x-expires': 60_000 } };
}

/** Commands for the leading Tron, from Trons that follow: each carries its own expiration, and is consumed by the leader only. */
export const commandTopology: Topology = {
  queues: [
    { name: COMMAND_QUEUE, durable: true, arguments: { 'x-max-length': 10_000, 'x-overflow': 'reject-publish' } },
  ],
};

/** `caller.<id>`: answers to one Tron's commands and public calls. Not a reserved name: runners refuse those in `reply_to`. */
export function callerQueue(id: string): QueueSpec {
  return { name: `caller.${id}`, durable: true, arguments: { 'x-expires': 60_000 } };
}

/** `funcatron.boot.<id>`: where one client keeps a transient message, which is gone exactly when the broker was restarted; gone an hour after its client. */
export function bootQueue(id: string): QueueSpec {
  return { name: `funcatron.boot.${id}`, durable: true, arguments: { 'x-expires': 3_600_000 } };
}

/** A broadcast queue of one process for `exchange`: goes with its process, keeps the newest. */
export function listenerTopology(
  exchange: ExchangeSpec,
  id: string,
  keys: readonly string[],
  maxLength: number,
): Topology {
  const queue = listenerQueue(exchange.name, id);
  return {
    exchanges: [exchange],
    queues: [
      {
        name: queue,
        durable: true,
        arguments: { 'x-expires': 60_000, 'x-max-length': maxLength, 'x-overflow': 'drop-head' },
      },
    ],
    bindings: keys.map((key) => ({ exchange: exchange.name, queue, key })),
  };
}

/** The name of the queue `listenerTopology` makes. */
export function listenerQueue(exchange: string, id: string): string {
  return `${exchange}.${id}`;
}

/** Waits between attempts at an event: 1 s, doubling, to 1 h. One queue each: a TTL per message expires only at the head. */
export const RETRY_RUNGS_MS = [
  1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000, 3_600_000,
] as const;

export function eventQueue(bundle: string): string {
  return `ev.${bundle}`;
}
export function deadQueue(bundle: string): string {
  return `dead.${bundle}`;
}
export function retryQueue(bundle: string, rungMs: number): string {
  return `ev.${bundle}.retry.${rungMs}`;
}

const eventLimits = { 'x-overflow': 'reject-publish', 'x-max-length': 1_000_000 } as const;

function deadLettersTo(queue: string): QueueSpec['arguments'] {
  return {
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': queue,
    'x-dead-letter-strategy': 'at-least-once',
  };
}

/**
 * What a bundle's events need before it is live: its queue, bound to `funcatron.call`, and its dead letters.
 * Quorum queues, at-least-once dead-lettering, `reject-publish`. The binding is `<bundle>.#`: operationIds may hold dots.
 */
export function eventTopology(bundle: string): Topology {
  const queue = eventQueue(bundle);
  return {
    exchanges: callTopology.exchanges ?? [],
    queues: [
      ...(callTopology.queues ?? []),
      { name: deadQueue(bundle), durable: true, arguments: { ...quorum, ...eventLimits } },
      {
        name: queue,
        durable: true,
        arguments: { ...quorum, ...eventLimits, ...deadLettersTo(deadQueue(bundle)), 'x-delivery-limit': 10 },
      },
    ],
    bindings: [...(callTopology.bindings ?? []), eventBinding(bundle)],
  };
}

/** Brings a bundle its events and public calls. */
export function eventBinding(bundle: string): BindingSpec {
  return { exchange: CALL_EXCHANGE, queue: eventQueue(bundle), key: `${bundle}.#` };
}

/** One rung of the retry ladder, dead-lettering back into the bundle's events; declared before its first use (13 quorum queues at deploy would be slow). */
export function retryTopology(bundle: string, rungMs: number): Topology {
  return {
    queues: [
      {
        name: retryQueue(bundle, rungMs),
        durable: true,
        arguments: { ...quorum, ...eventLimits, ...deadLettersTo(eventQueue(bundle)), 'x-message-ttl': rungMs },
      },
    ],
  };
}

/** Where public messages that no bundle takes and nobody waits for are kept. */
export const unroutedDeadTopology: Topology = {
  queues: [{ name: UNROUTED_DEAD_QUEUE, durable: true, arguments: { ...quorum, ...eventLimits } }],
};

/** The routing key of a public call. */
export function callKey(bundle: string, operationId: string): string {
  return `${bundle}.${operationId}`;
}
