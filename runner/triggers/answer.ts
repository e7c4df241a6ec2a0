import { FuncatronError, isErrorCode, PROBLEM_CONTENT_TYPE, toProblem } from '../../core/errors.ts';
import type { MessageProperties } from '../../core/broker/broker.ts';
import { ReplyFlag, type Envelope, type FailedReply, type ReplyMeta } from '../../core/wire/envelope.ts';
import { ReplyHeader } from './headers.ts';

/** How a call of a trigger ended: what the func answered, or why it did not. */
export type Answer =
  | {
      readonly status: number;
      readonly headers: Readonly<Record<string, string | readonly string[]>>;
      readonly body: Buffer;
      readonly error?: undefined;
    }
  | { readonly error: FuncatronError };

/** Opens record `index` of an envelope of replies; the body is a view of it. */
export function openAnswer(envelope: Envelope, index: number): Answer {
  const flags = envelope.replyFlags(index);
  const body = envelope.body(index);
  if ((flags & ReplyFlag.failed) !== 0) {
    const { code, message, data } = JSON.parse(body.toString()) as FailedReply;
    const known = isErrorCode(code) ? code : 'INTERNAL';
    return { error: new FuncatronError(known, message, data === undefined ? {} : { data }) };
  }
  const status = envelope.status(index);
  if ((flags & ReplyFlag.json) !== 0) return { status, headers: JSON_HEADERS, body };
  const meta = envelope.meta(index);
  const { headers = {} } = meta.length === 0 ? {} : (JSON.parse(meta.toString()) as ReplyMeta);
  return { status, headers, body };
}

const JSON_HEADERS = { 'content-type': 'application/json' } as const;

/** An answer as a message to `reply_to`: body and content type as the func gave them, errors as problem+json. */
export function renderAnswer(
  answer: Answer,
  callId: string,
  correlationId: string | undefined,
): { readonly body: Buffer; readonly properties: MessageProperties } {
  const shared = { messageId: callId, ...(correlationId === undefined ? {} : { correlationId }) };
  if (answer.error !== undefined) {
    return {
      body: Buffer.from(JSON.stringify(toProblem(answer.error, callId))),
      properties: {
        ...shared,
        contentType: PROBLEM_CONTENT_TYPE,
        headers: { [ReplyHeader.status]: answer.error.status },
      },
    };
  }
  const headers: Record<string, unknown> = { [ReplyHeader.status]: answer.status };
  for (const [name, value] of Object.entries(answer.headers)) {
    if (name !== 'content-type')
      headers[`${ReplyHeader.headerPrefix}${name}`] = typeof value === 'string' ? value : [...value];
  }
  const contentType = answer.headers['content-type'];
  return {
    body: answer.body,
    properties: { ...shared, headers, ...(typeof contentType === 'string' ? { contentType } : {}) },
  };
}
