import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { LOG_LEVELS, type LogLevel } from '../core/log.ts';
import { parseContentType } from '../core/openapi/media.ts';
import type { CallLogLine, CallMeta } from '../core/wire/envelope.ts';
import type { OperatorCheck } from './operator-check.ts';

/** Logs of single calls: an operator raises the level of one request, and has its lines in the answer. */

/** How a call is to be logged; only who sent the management token can have it so. */
export type CallLogWish = NonNullable<CallMeta['log']>;

const LEVEL_HEADER = 'x-funcatron-log-level';
const LOG_HEADER = 'x-funcatron-log';

/** The content type of an answer that holds the lines of its call. */
export const CALL_CONTENT_TYPE = 'application/vnd.funcatron.call+json';

/** Whether a request says how it is to be logged. */
export function asksForLog({ headers }: IncomingMessage): boolean {
  return headers[LEVEL_HEADER] !== undefined || headers[LOG_HEADER] !== undefined;
}

/**
 * What a request wishes, where its token is the management token; `undefined` for everybody else. No func gets to see
 * these headers, nor that token.
 */
export async function takeLogWish(operators: OperatorCheck, req: IncomingMessage): Promise<CallLogWish | undefined> {
  const { headers } = req;
  const asked = headers[LEVEL_HEADER];
  const isReturned = headers[LOG_HEADER] === 'body';
  Reflect.deleteProperty(headers, LEVEL_HEADER);
  Reflect.deleteProperty(headers, LOG_HEADER);
  if (!(await operators.isOperator(headers.authorization))) return undefined;
  delete headers.authorization;
  return isLevel(asked) ? { level: asked, isReturned } : { isReturned };
}

function isLevel(text: unknown): text is LogLevel {
  return LOG_LEVELS.some((level) => level === text);
}

/** An answer and the lines of its call, as JSON: a body that is neither JSON nor text is base64. */
export function renderCall(
  status: number,
  headers: Readonly<Record<string, string | string[]>>,
  body: Buffer | string,
  log: readonly CallLogLine[],
): string {
  return JSON.stringify({ status, headers, ...renderBody(headers['content-type'], Buffer.from(body)), log });
}

function renderBody(contentType: unknown, body: Buffer): object {
  if (body.length === 0) return {};
  const kind = typeof contentType === 'string' ? parseContentType(contentType)?.kind : undefined;
  if (!isUtf8(body) || kind === 'bytes' || kind === undefined) return { bodyBase64: body.toString('base64') };
  const text = body.toString();
  if (kind !== 'json') return { body: text };
  try {
    return { body: JSON.parse(text) as unknown };
  } catch {
    return { body: text }; // What a func calls JSON need not be any.
  }
}
