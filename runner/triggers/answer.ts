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

/**
 * Opens record `index` of an envelope of replies; the body is a view of it. INVALID_RESPONSE when it is no reply: it
 * comes from the guest's process, or over a queue, and nothing about it can be relied upon.
 */
export function openAnswer(envelope: Envelope, index: number): Answer {
  try {
    return readAnswer(envelope, index);
  } catch (cause) {
    return { error: new FuncatronError('INVALID_RESPONSE', 'the reply to the call cannot be read', { cause }) };
  }
}

function readAnswer(envelope: Envelope, index: number): Answer {
  const flags = envelope.replyFlags(index);
  const body = envelope.body(index);
  if ((flags & ReplyFlag.failed) !== 0) {
    const { code, message, data } = JSON.parse(body.toString()) as FailedReply;
    if (typeof message !== 'string' || typeof (data ?? {}) !== 'object') throw new TypeError('it says no reason');
    return { error: new FuncatronError(isErrorCode(code) ? code : 'INTERNAL', message, { data: data ?? {} }) };
  }
  const status = envelope.status(index);
  if ((flags & ReplyFlag.json) !== 0) return { status, headers: JSON_HEADERS, body };
  const meta = envelope.meta(index);
  const { headers = {} } = meta.length === 0 ? {} : (JSON.parse(meta.toString()) as ReplyMeta);
  if (!areHeaders(headers)) throw new TypeError('its headers are none');
  return { status, headers, body };
}

function areHeaders(headers: unknown): boolean {
  return (
    typeof headers === 'object' &&
    headers !== null &&
    Object.values(headers).every((value) => typeof value === 'string' || Array.isArray(value))
  );
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
