import { ReplyFlag } from '../../../core/wire/envelope.ts';
import { type Failure, FAILURES, FETCHED_BYTES, Out, REPLY_BYTES } from '../bridge.ts';
import { copyOf, viewOf } from './bytes.ts';
import type { Finished } from './outbox.ts';
import { discardStream, isStream } from './outgoing.ts';
import { Refusal, type ReplyHeaders, toHeaders } from './reply-headers.ts';

/** What a func returned, as a reply. */

const REPLY = Symbol.for('funcatron.reply');
const { stringify } = JSON;

/** The answer to a call whose func returned `value`; a body may be as long as `maxBytes`. */
export function toFinished(slot: number, operationId: string, value: unknown, maxBytes = REPLY_BYTES): Finished {
  try {
    const finished = toReply(slot, value);
    const length = finished.bytes?.length ?? finished.text.length;
    if (length <= maxBytes) return finished;
    return toFailure(slot, 'RESPONSE_TOO_LARGE', `func ${operationId} returned more than ${maxBytes} bytes`);
  } catch (thrown) {
    if (thrown instanceof Refusal) return toFailure(slot, thrown.failure, `func ${operationId} ${thrown.message}`);
    return toFailure(slot, 'INVALID_RESPONSE', `func ${operationId} returned something that cannot be read`);
  }
}

/** The answer to a call that failed, with a failure of the table. */
export function toFailure(slot: number, code: Failure, message: string): Finished {
  const text = stringify({ code, message });
  const status = FAILURES.indexOf(code);
  return { out: Out.failure, slot, status, flags: ReplyFlag.failed, meta: '', text, bytes: undefined };
}

/** Whether what the call has taken is kept: it has an answer, and its status is below 500. */
export function isSuccess({ out, status }: Finished): boolean {
  return out === Out.reply && status < 500;
}

function toReply(slot: number, value: unknown): Finished {
  if (value === undefined) return make(slot, 204, 0, '', '', undefined);
  if (typeof value === 'object' && value !== null && (value as { [REPLY]?: unknown })[REPLY] === true) {
    const { status, body, headers } = value as { status: unknown; body: unknown; headers: unknown };
    return toExact(slot, status, body, headers);
  }
  if (typeof value === 'string') return make(slot, 200, 0, TEXT_META, value, undefined);
  const view = viewOf(value);
  if (view !== undefined) return make(slot, 200, 0, BYTES_META, '', view);
  if (isStream(value)) return { ...make(slot, 200, 0, BYTES_META, '', undefined), body: value };
  return make(slot, 200, ReplyFlag.json, '', toJson(value), undefined);
}

const TEXT_TYPE = 'text/plain; charset=utf-8';
const BYTES_TYPE = 'application/octet-stream';
const JSON_TYPE = 'application/json';
const TEXT_META = `{"headers":{"content-type":"${TEXT_TYPE}"}}`;
const BYTES_META = `{"headers":{"content-type":"${BYTES_TYPE}"}}`;

function toExact(slot: number, status: unknown, body: unknown, given: unknown): Finished {
  if (typeof status !== 'number' || !Number.isInteger(status) || status < 200 || status > 599) {
    throw new Refusal('INVALID_RESPONSE', `returned status ${String(status)}, which is not an integer from 200 to 599`);
  }
  const headers = toHeaders(given);
  const isEmpty = body === undefined || status === 204 || status === 205 || status === 304;
  if (isEmpty) {
    if (isStream(body)) discardStream(body).catch(() => undefined); // what it failed of concerns nobody
    return make(slot, status, 0, metaOf(headers), '', undefined);
  }
  const view = viewOf(body);
  if (view !== undefined) return make(slot, status, 0, metaOf(headers, BYTES_TYPE), '', view);
  if (typeof body === 'string') return make(slot, status, 0, metaOf(headers, TEXT_TYPE), body, undefined);
  if (isStream(body)) return { ...make(slot, status, 0, metaOf(headers, BYTES_TYPE), '', undefined), body };
  const text = toJson(body);
  if (Object.keys(headers).length === 0) return make(slot, status, ReplyFlag.json, '', text, undefined);
  return make(slot, status, 0, metaOf(headers, JSON_TYPE), text, undefined);
}

function make(
  slot: number,
  status: number,
  flags: number,
  meta: string,
  text: string,
  view: Uint8Array | undefined,
): Finished {
  const length = view === undefined ? text.length : view.length;
  // Before it is copied.
  if (length > FETCHED_BYTES) throw new Refusal('RESPONSE_TOO_LARGE', `returned more than ${FETCHED_BYTES} bytes`);
  return { out: Out.reply, slot, status, flags, meta, text, bytes: view === undefined ? undefined : copyOf(view) };
}

function toJson(value: unknown): string {
  let text: string | undefined;
  try {
    text = stringify(value);
  } catch (thrown) {
    throw new Refusal('INVALID_RESPONSE', `returned a value that is not JSON: ${reasonOf(thrown)}`);
  }
  if (text === undefined) throw new Refusal('INVALID_RESPONSE', `returned a ${typeof value}, which is not JSON`);
  return text;
}

/** The first line of V8's own words for a cycle or a BigInt; nothing of an error the bundle threw. */
function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof TypeError)) return 'its toJSON threw';
  const { message } = thrown;
  const end = message.indexOf('\n');
  return (end < 0 ? message : message.slice(0, end)).slice(0, 200);
}

function metaOf(headers: ReplyHeaders, contentType?: string): string {
  if (contentType !== undefined) headers['content-type'] ??= contentType;
  for (const _name in headers) return stringify({ headers });
  return '';
}

/** What the web's `Response` is, whoever made it: Node, the guest, a package. */
interface ResponseLike {
  readonly status: number;
  readonly url?: unknown;
  readonly headers: Iterable<readonly [string, string]>;
  readonly body?: unknown;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** Whether a func returned a `Response`. */
export function isResponse(value: unknown): value is ResponseLike {
  if (typeof value !== 'object' || value === null) return false;
  const { arrayBuffer } = value as { arrayBuffer?: unknown };
  // Asked first, and alone: nearly every value ends here.
  if (typeof arrayBuffer !== 'function') return false;
  const { status, headers } = value as { status?: unknown; headers?: unknown };
  return typeof status === 'number' && typeof headers === 'object';
}

/** A `Response` as `reply` would have made it: its body as the stream it has, or whole. */
export async function fromResponse(response: ResponseLike): Promise<unknown> {
  const { status, url, body } = response;
  const headers: ReplyHeaders = {};
  for (const [name, value] of response.headers) {
    const known = headers[name];
    headers[name] = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value];
  }
  // Of one that was fetched: its body has been decoded.
  if (typeof url === 'string' && url !== '') delete headers['content-encoding'];
  if (isStream(body)) return { [REPLY]: true, status, headers, body };
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { [REPLY]: true, status, headers, body: bytes.length === 0 ? undefined : bytes };
}
