import { concat } from './bytes.ts';
import { decodeUtf8, encodeUtf8 } from './encoding.ts';

/** Bodies by content type: what `event.body` is. */

/** The body of a call: text when it crossed as text, else bytes. */
export interface RawBody {
  readonly text: string | undefined;
  readonly bytes: Uint8Array | undefined;
}

export function bodyText(body: RawBody): string {
  return body.text ?? (body.bytes === undefined ? '' : decodeUtf8(body.bytes));
}

export function bodyBytes(body: RawBody): Uint8Array {
  return body.bytes ?? (body.text === undefined ? new Uint8Array(0) : encodeUtf8(body.text));
}

/** Deserializers of the bundle's own, by content type; none unless a provider replaced them. */
let deserializerFor: ((contentType: string) => unknown) | undefined;

/** Says who knows how bodies are read, before the ways below. */
export function setDeserializers(find: (contentType: string) => unknown): void {
  deserializerFor = find;
}

/** JSON → value, form → object, text → string, multipart → object of fields, else bytes; an empty body → `undefined`. */
export function parseBody(body: RawBody, contentType: string): unknown {
  if (body.text === undefined && body.bytes === undefined) return undefined;
  const end = contentType.indexOf(';');
  const type = (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
  const custom = deserializerFor?.(type);
  if (typeof custom === 'function') {
    return (custom as (bytes: Uint8Array, contentType: string) => unknown)(bodyBytes(body), contentType);
  }
  if (type === 'application/json' || type.endsWith('+json')) return JSON.parse(bodyText(body));
  if (type === 'application/x-www-form-urlencoded') return parseForm(bodyText(body));
  if (type.startsWith('text/')) return bodyText(body);
  if (type === 'multipart/form-data') return parseMultipart(bodyBytes(body), contentType);
  return bodyBytes(body);
}

/** Adds a field; one that comes again becomes a list. */
function addField(fields: Map<string, unknown>, name: string, value: unknown): void {
  const known = fields.get(name);
  if (known === undefined) fields.set(name, value);
  else if (Array.isArray(known)) known.push(value);
  else fields.set(name, [known, value]);
}

/** Source: https://url.spec.whatwg.org/#urlencoded-parsing */
function parseForm(text: string): Record<string, unknown> {
  const fields = new Map<string, unknown>();
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = equals < 0 ? pair : pair.slice(0, equals);
    addField(fields, decodeForm(name), equals < 0 ? '' : decodeForm(pair.slice(equals + 1)));
  }
  return Object.fromEntries(fields);
}

function decodeForm(text: string): string {
  const spaced = text.replaceAll('+', ' ');
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced; // a stray percent sign stays as it is
  }
}

/** A file of a multipart body. */
export interface UploadedFile {
  readonly filename: string;
  readonly contentType: string;
  readonly bytes: Uint8Array;
}

/** Source: RFC 7578, RFC 2046 §5.1.1. A body that is no multipart gives an empty object. */
function parseMultipart(bytes: Uint8Array, contentType: string): Record<string, unknown> {
  const fields = new Map<string, unknown>();
  const delimiter = delimiterOf(contentType);
  if (delimiter === undefined) return {};
  // The first delimiter has no line end before it when there is no preamble.
  const whole = concat([encodeUtf8('\r\n'), bytes]);
  let at = find(whole, delimiter, 0);
  while (at >= 0) {
    const start = at + delimiter.length;
    if (whole[start] === 0x2d && whole[start + 1] === 0x2d) break;
    const next = find(whole, delimiter, start);
    if (next < 0) break;
    addPart(fields, whole.subarray(start + 2, next));
    at = next;
  }
  return Object.fromEntries(fields);
}

/** What stands between the parts of a body of this type; the first has no line end before it when there is no preamble. */
export function delimiterOf(contentType: string): Uint8Array | undefined {
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType);
  return boundary === null ? undefined : encodeUtf8(`\r\n--${boundary[1] ?? boundary[2] ?? ''}`);
}

export const BLANK_LINE = new Uint8Array([13, 10, 13, 10]);

function addPart(fields: Map<string, unknown>, part: Uint8Array): void {
  const headEnd = find(part, BLANK_LINE, 0);
  if (headEnd < 0) return;
  const head = decodeUtf8(part.subarray(0, headEnd));
  const bytes = part.slice(headEnd + BLANK_LINE.length);
  const name = parameter(head, 'name');
  if (name === undefined) return;
  const filename = parameter(head, 'filename');
  if (filename === undefined) addField(fields, name, decodeUtf8(bytes));
  else addField(fields, name, { filename, contentType: typeOf(head) ?? 'application/octet-stream', bytes });
}

/** The content type in the head of a part. */
export function typeOf(head: string): string | undefined {
  return /^content-type:\s*(.+)$/im.exec(head)?.[1]?.trim();
}

/** A parameter of the `content-disposition` in the head of a part. */
export function parameter(head: string, name: string): string | undefined {
  const found = new RegExp(`^content-disposition:[^\\r\\n]*;\\s*${name}="((?:[^"\\\\]|\\\\.)*)"`, 'im').exec(head);
  return found?.[1]?.replaceAll('%22', '"');
}

/** Where the pattern begins in the bytes, from a place on; -1 when it is not there. */
export function find(bytes: Uint8Array, pattern: Uint8Array, from: number): number {
  const [first = 0] = pattern;
  for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
    let length = 1;
    while (length < pattern.length && bytes[at + length] === pattern[length]) length++;
    if (length === pattern.length) return at;
  }
  return -1;
}
