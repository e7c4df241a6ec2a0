import type { AbortSignal } from './abort.ts';
import { parseBody } from './body.ts';
import { copyOf, viewOf } from './bytes.ts';
import { DOMException } from './dom-exception.ts';
import { encodeUtf8 } from './encoding.ts';
import { begin, type Operation, operationError, type OperationResult, unlessAborted } from './operations.ts';

/** `context.invoke`: calls of other funcs, which the runner makes. */

/** What the called func gets; see the sdk. */
export interface InvokeInput {
  readonly params?: unknown;
  readonly query?: unknown;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
}

export interface InvokeResult {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: unknown;
}

interface Sent {
  readonly contentType: string | undefined;
  readonly bytes: Uint8Array | undefined;
}

const { stringify } = JSON;

/** Calls a func for a call, whose signal ends it too; the promise rejects with an `Error` whose `code` is one of the table, like `TIMEOUT`. */
export async function invoke(
  callId: string,
  signal: AbortSignal,
  bundle: unknown,
  operationId: unknown,
  input: InvokeInput = {},
): Promise<InvokeResult> {
  const { params, query, body } = input;
  const { contentType, bytes } = encode(body);
  const headers = lowerCase(input.headers);
  if (contentType !== undefined) headers['content-type'] ??= contentType;
  const args = { bundle, operationId, params, query, headers };
  signal.throwIfAborted();
  const { result, bytes: answer } = await finished(begin('invoke', args, bytes, callId), signal);
  const answered = result['headers'] as Readonly<Record<string, unknown>>;
  const raw = { text: undefined, bytes: answer };
  const answeredType = answered['content-type'];
  return {
    status: Number(result['status']),
    headers: answered,
    body: parseBody(raw, typeof answeredType === 'string' ? answeredType : ''),
  };
}

/** Who hangs up on the caller hangs up on the func it called. The caller's deadline is one of the call it made. */
async function finished(operation: Operation, signal: AbortSignal): Promise<OperationResult> {
  try {
    return await unlessAborted(operation, signal);
  } catch (thrown) {
    const { reason } = signal;
    if (thrown !== reason || !(reason instanceof DOMException) || reason.name !== 'TimeoutError') throw thrown;
    throw operationError('TIMEOUT', reason.message);
  }
}

/** Bytes and text as they are, everything else as JSON: the same as what a func returns. */
function encode(body: unknown): Sent {
  if (body === undefined) return { contentType: undefined, bytes: undefined };
  if (typeof body === 'string') return { contentType: 'text/plain; charset=utf-8', bytes: encodeUtf8(body) };
  const view = viewOf(body);
  if (view !== undefined) return { contentType: 'application/octet-stream', bytes: copyOf(view) };
  const json = stringify(body);
  if (json === undefined) throw new TypeError(`the body of an invoked call is a ${typeof body}, which is not JSON`);
  return { contentType: 'application/json', bytes: encodeUtf8(json) };
}

function lowerCase(headers: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const lower: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(headers)) lower[name.toLowerCase()] = value;
  return lower;
}
