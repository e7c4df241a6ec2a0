import type { Delivery } from '../core/broker/broker.ts';
import { FuncatronError } from '../core/errors.ts';
import { newId } from '../core/id.ts';
import { CALL_EXCHANGE, callKey } from '../core/wire/topology.ts';
import type { Replies } from './replies.ts';

/** A call as the management API takes it. */
export interface Invocation {
  readonly bundle: string;
  readonly operationId: string;
  /** Lower-case names; those that begin with `fn-path-`, `fn-query-` and `fn-header-`, and `fn-revision`, go with the call. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
  readonly timeoutMs: number;
}

export interface InvocationAnswer {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly body: Buffer;
}

const PASSED_ON = /^fn-(?:path|query|header)-.|^fn-revision$/;

/**
 * Calls an operation as any AMQP client would (protocol §3) and gives the func's own answer.
 * @throws TIMEOUT, BROKER_DOWN, OVERLOADED
 */
export async function invoke(replies: Replies, invocation: Invocation): Promise<InvocationAnswer> {
  const { bundle, operationId, headers, timeoutMs } = invocation;
  const callId = newId();
  const contentType = headers['content-type'];
  const message = {
    exchange: CALL_EXCHANGE,
    routingKey: callKey(bundle, operationId),
    body: invocation.body ?? Buffer.alloc(0),
    properties: {
      messageId: callId,
      headers: Object.fromEntries(Object.entries(headers).filter(([name]) => PASSED_ON.test(name))),
      ...(contentType === undefined ? {} : { contentType }),
    },
  };
  const reply = await replies.request(message, timeoutMs);
  if (reply !== undefined) return answerOf(reply);
  throw new FuncatronError('TIMEOUT', `${bundle}.${operationId} did not answer within ${timeoutMs} ms`, {
    data: { callId, hint: 'see GET /v1/runners whether a runner holds it, and GET /v1/logs what it said' },
  });
}

function answerOf({ properties, body }: Delivery): InvocationAnswer {
  const status = Number(properties.headers?.['fn-status'] ?? 200);
  const isStatus = Number.isInteger(status) && status >= 200 && status <= 599;
  return { status: isStatus ? status : 502, contentType: properties.contentType, body };
}
