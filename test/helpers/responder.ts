import type { Broker, Delivery, PublishOutcome } from '../../core/broker/broker.ts';
import { encodeReplies, Envelope, ReplyFlag, type CallMeta, type ReplyRecord } from '../../core/wire/envelope.ts';
import { formatId } from '../../core/id.ts';
import type { QueueSpec } from '../../core/wire/topology.ts';

/** A call as a test's responder sees it. */
export interface SeenCall {
  readonly id: string;
  readonly idBytes: Buffer;
  readonly operation: number;
  readonly flags: number;
  readonly attempt: number;
  readonly deadline: number;
  readonly meta: CallMeta;
  readonly body: Buffer;
}

/** What it answers: undefined keys are those of `200 {"ok":true}`. */
export interface Answer {
  readonly status?: number;
  readonly flags?: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Buffer | string;
  readonly funcUs?: number;
  readonly waitUs?: number;
  readonly coldUs?: number;
  /** A stamp. */
  readonly arrivedUs?: number;
}

/** Stands in for a runner: consumes a work queue and answers what `answer` says, or nothing when it says nothing. */
export interface Responder {
  /** Calls in the order they came. */
  readonly calls: readonly SeenCall[];
  /** Messages they came in. */
  readonly batches: number;
  /** Answers one call now, whatever `answer` said. */
  reply(call: SeenCall, answer?: Answer): Promise<void>;
  close(): Promise<void>;
}

const DELIVERED: ReadonlySet<PublishOutcome> = new Set<PublishOutcome>(['accepted', 'returned']);

export async function openResponder(
  broker: Broker,
  queue: QueueSpec,
  answer: (call: SeenCall) => Answer | undefined | Promise<Answer | undefined> = () => ({}),
): Promise<Responder> {
  const calls: SeenCall[] = [];
  const replyTo = new Map<string, string>();
  let batches = 0;
  await broker.declare({ queues: [queue] });
  const consumer = await broker.consume(queue.name, { prefetch: 1_000 }, onDelivery);

  function onDelivery(delivery: Delivery): void {
    const envelope = new Envelope(delivery.body);
    batches++;
    for (let index = 0; index < envelope.count; index++) {
      const call = readCall(envelope, index);
      calls.push(call);
      replyTo.set(call.id, delivery.properties.replyTo ?? '');
      void respond(call);
    }
    delivery.ack();
  }

  async function respond(call: SeenCall): Promise<void> {
    const given = await answer(call);
    if (given !== undefined) await reply(call, given);
  }

  async function reply(call: SeenCall, given: Answer = {}): Promise<void> {
    const message = {
      exchange: '',
      routingKey: replyTo.get(call.id) ?? '',
      body: encodeReplies([replyOf(call, given)]),
      properties: { type: 'replies' },
    };
    // As a runner does: after a reconnect deliveries come before anything can be published.
    while (!DELIVERED.has(await broker.publish(message))) await broker.ready();
  }

  return {
    calls,
    get batches() {
      return batches;
    },
    reply,
    close: () => consumer.cancel(),
  };
}

function readCall(envelope: Envelope, index: number): SeenCall {
  const meta = envelope.meta(index).toString();
  return {
    id: formatId(envelope.id(index), 0),
    idBytes: envelope.id(index),
    operation: envelope.operation(index),
    flags: envelope.callFlags(index),
    attempt: envelope.attempt(index),
    deadline: envelope.deadline(index),
    meta: meta === '' ? {} : (JSON.parse(meta) as CallMeta),
    body: envelope.body(index),
  };
}

function replyOf(call: SeenCall, answer: Answer): ReplyRecord {
  return {
    id: call.idBytes,
    status: answer.status ?? 200,
    flags: answer.flags ?? (answer.headers === undefined ? ReplyFlag.json : 0),
    waitUs: answer.waitUs ?? 10,
    funcUs: answer.funcUs ?? 100,
    arrivedUs: answer.arrivedUs ?? 0,
    coldUs: answer.coldUs ?? 0,
    meta: answer.headers === undefined ? '' : JSON.stringify({ headers: answer.headers }),
    body: answer.body ?? '{"ok":true}',
  };
}
