import { CONNECTION_HEADERS } from '../../../core/wire/connection-headers.ts';
import type { Failure } from '../bridge.ts';

/** Headers, and trailers, as funcs give them. */

export type ReplyHeaders = Record<string, string | string[]>;

/** Why a value cannot be sent. */
export class Refusal {
  readonly failure: Failure;
  readonly message: string;
  constructor(failure: Failure, message: string) {
    this.failure = failure;
    this.message = message;
  }
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// oxlint-disable-next-line no-control-regex -- RFC 9110 §5.5: these are the characters a field value may not hold
const BAD_VALUE = /[^\t\u0020-\u007e\u0080-\u00ff]/;
const HEADERS_CHARS = 32 * 1024;
const { stringify } = JSON;

/** Checked, in lower case, and without those of the connection. @throws Refusal when one cannot be sent */
export function toHeaders(given: unknown): ReplyHeaders {
  const headers: ReplyHeaders = {};
  if (given === undefined || given === null) return headers;
  if (typeof given !== 'object') throw new Refusal('INVALID_RESPONSE', 'returned headers that are not an object');
  let chars = 0;
  for (const [key, value] of Object.entries(given)) {
    const name = key.toLowerCase();
    if (!TOKEN.test(name)) {
      throw new Refusal('INVALID_RESPONSE', `returned a header named ${stringify(name.slice(0, 100))}`);
    }
    if (CONNECTION_HEADERS.has(name) || value === undefined || value === null) continue;
    const values: unknown[] = Array.isArray(value) ? value : [value];
    const texts = values.map((item) => toHeaderValue(name, item));
    for (const text of texts) chars += name.length + text.length;
    if (chars > HEADERS_CHARS) throw new Refusal('INVALID_RESPONSE', 'returned headers longer than 32 KiB');
    headers[name] = Array.isArray(value) ? texts : (texts[0] ?? '');
  }
  return headers;
}

function toHeaderValue(name: string, value: unknown): string {
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') {
    throw new Refusal('INVALID_RESPONSE', `returned header ${name} with a ${typeof value}`);
  }
  const text = String(value);
  if (BAD_VALUE.test(text)) {
    throw new Refusal('INVALID_RESPONSE', `returned header ${name} with a character that headers cannot hold`);
  }
  return text;
}

/**
 * What the source of a body returned, as trailers in JSON; '' where that is no object.
 * @throws TypeError when one cannot be sent
 */
export function trailersOf(returned: unknown): string {
  if (typeof returned !== 'object' || returned === null || Array.isArray(returned)) return '';
  try {
    const trailers = toHeaders(returned);
    for (const name in trailers) trailers[name] = String(trailers[name]);
    return stringify(trailers);
  } catch (thrown) {
    throw thrown instanceof Refusal ? new TypeError(`the source of the body ${thrown.message}, as a trailer`) : thrown;
  }
}
