import type { BundleRecord } from '../../core/bundle/manifest.ts';
import type { ClusterClock } from '../../core/clock.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { ApiOperation } from '../../core/openapi/api.ts';
import { createValidators, type Validators } from '../../core/openapi/compile.ts';
import { CallFlag, type CallMeta, type CallRecord } from '../../core/wire/envelope.ts';
import type { Answer } from './answer.ts';
import { requestOf, type Incoming } from './incoming.ts';

/** A call holds its delivery while it runs, and RabbitMQ closes the channel of one held for 30 minutes. */
const MAX_TIMEOUT_MS = 25 * 60_000;

/** What a target reads of a message: one that came over the public queue, or one that a func's `invoke` stands for. */
export interface CallMessage extends Pick<Incoming, 'operationId' | 'id' | 'attempt' | 'deadline'> {
  readonly replyTo?: string | undefined;
  readonly delivery: Pick<Incoming['delivery'], 'body' | 'properties'>;
  /** Calls by `invoke` that led here; absent: it came over the queue. */
  readonly hops?: number;
}

/** The operation of a revision that takes a message. */
export interface CallTarget {
  readonly revision: string;
  readonly mayRerun: boolean;
  /** Whether an event of it may run for longer than a delivery can be held. */
  readonly outlastsDelivery: boolean;
  /**
   * Validates the message, as a frontend would, and runs it. Settles with how the func ended.
   * @throws INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, PAYLOAD_TOO_LARGE; TIMEOUT when its deadline has passed
   */
  run(message: CallMessage): Promise<Answer>;
}

export interface TargetOptions {
  readonly clock: ClusterClock;
  readonly maxBodyBytes: number;
  /** Whether `call` holds no delivery of any queue. */
  readonly isLocal: boolean;
  /** Runs the call: in this process, or over the queue of the revision. */
  call(record: CallRecord): Promise<Answer>;
}

const validatorsOf = new WeakMap<BundleRecord, Validators>();

/** @throws NOT_FOUND when the revision has no such operation */
export function createTarget(
  record: BundleRecord,
  { operationId }: Pick<CallMessage, 'operationId'>,
  options: TargetOptions,
): CallTarget {
  const { operations } = record.api;
  const index = operations.findIndex((operation) => operation.operationId === operationId);
  const operation = operations[index];
  if (operation === undefined) {
    throw new FuncatronError(
      'NOT_FOUND',
      `${record.manifest.name}@${record.revision} has no operation ${JSON.stringify(operationId)}`,
      {
        data: { hint: 'the routing key is <bundle>.<operationId>' },
      },
    );
  }
  return {
    revision: record.revision,
    mayRerun: operation.mayRerun,
    outlastsDelivery: options.isLocal && timeoutOf(operation) > MAX_TIMEOUT_MS,
    async run(message) {
      const answer = await options.call(callOf(record, operation, index, message, options));
      return operation.validateResponses ? checked(record, index, answer) : answer;
    },
  };
}

function callOf(
  record: BundleRecord,
  operation: ApiOperation,
  index: number,
  incoming: CallMessage,
  { clock, maxBodyBytes, isLocal }: TargetOptions,
): CallRecord {
  const now = clock.now();
  const { body, properties } = incoming.delivery;
  if (body.length > maxBodyBytes) {
    throw new FuncatronError('PAYLOAD_TOO_LARGE', `the body has ${body.length} bytes, more than ${maxBodyBytes}`);
  }
  if (incoming.deadline !== undefined && incoming.deadline <= now) {
    throw new FuncatronError('TIMEOUT', 'the deadline passed before the func was started');
  }
  const request = requestOf(incoming);
  const read = compiled(record).operation(index).read(request);
  if (!read.ok) {
    throw new FuncatronError(read.code, `the message does not match operation ${operation.operationId}`, {
      data: { problems: read.problems },
    });
  }
  const meta: CallMeta = {
    params: read.params,
    query: read.query,
    cookies: read.cookies,
    headers: request.headers,
    ...(incoming.hops === undefined ? { kind: 'queue' } : { kind: 'invoke', hops: incoming.hops }),
    time: properties.timestamp === undefined ? now : properties.timestamp * 1_000,
  };
  // A func that invokes another waits for it, though there is no queue to answer to.
  const isEvent = incoming.replyTo === undefined && incoming.hops === undefined;
  const timeoutMs = isEvent && isLocal ? timeoutOf(operation) : Math.min(timeoutOf(operation), MAX_TIMEOUT_MS);
  return {
    id: incoming.id,
    deadline: Math.min(now + timeoutMs, incoming.deadline ?? Infinity),
    operation: index,
    // An event that lost its worker is retried from the queue, after a wait: not at once in the next worker.
    flags:
      (isEvent ? CallFlag.event : 0) |
      (!isEvent && operation.mayRerun ? CallFlag.mayRerun : 0) |
      (read.isText ? CallFlag.text : 0),
    attempt: incoming.attempt,
    meta: JSON.stringify(meta),
    body,
  };
}

/** Infinity where there is none. */
function timeoutOf({ timeoutMs }: ApiOperation): number {
  return timeoutMs === 0 ? Infinity : timeoutMs;
}

/** No frontend sees these answers, so they are held against the document here. */
function checked(record: BundleRecord, index: number, answer: Answer): Answer {
  if (answer.error !== undefined) return answer;
  const problems = compiled(record).operation(index).checkResponse(answer.status, answer.headers, answer.body);
  if (problems.length === 0) return answer;
  return {
    error: new FuncatronError('INVALID_RESPONSE', 'the answer does not match the document', { data: { problems } }),
  };
}

function compiled(record: BundleRecord): Validators {
  let validators = validatorsOf.get(record);
  if (validators === undefined) validatorsOf.set(record, (validators = createValidators(record.api)));
  return validators;
}
