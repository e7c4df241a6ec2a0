import { isUtf8 } from 'node:buffer';

/** How a body of a content type is read. */
export type MediaKind = 'json' | 'form' | 'multipart' | 'text' | 'bytes';

/** A `Content-Type` taken apart. RFC 9110 §8.3. */
export interface ContentType {
  /** `type/subtype`, lower case. */
  readonly essence: string;
  readonly kind: MediaKind;
  readonly charset: string | undefined;
  readonly boundary: string | undefined;
}

/** Most content types remembered; clients choose them, so the memory is bounded. */
const MAX_REMEMBERED = 256;

/** Longer ones are none; it also bounds the work of the expression that reads the parameters. */
const MAX_LENGTH = 1_024;

const remembered = new Map<string, ContentType | undefined>();

/** Takes a `Content-Type` apart; `undefined` where it is none. */
export function parseContentType(header: string): ContentType | undefined {
  const known = remembered.get(header);
  if (known !== undefined) return known;
  const parsed = parse(header);
  if (remembered.size >= MAX_REMEMBERED) remembered.clear();
  remembered.set(header, parsed);
  return parsed;
}

const ESSENCE = /^[a-z0-9!#$%&'*+.^_`|~-]{1,127}\/[a-z0-9!#$%&'*+.^_`|~-]{1,127}$/;
const PARAMETER = /;[ \t]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))[ \t]*/g;

function parse(header: string): ContentType | undefined {
  if (header.length > MAX_LENGTH) return undefined;
  const semicolon = header.indexOf(';');
  const essence = (semicolon < 0 ? header : header.slice(0, semicolon)).trim().toLowerCase();
  if (!ESSENCE.test(essence)) return undefined;
  let charset: string | undefined;
  let boundary: string | undefined;
  for (const [, name = '', quoted, token] of (semicolon < 0 ? '' : header.slice(semicolon)).matchAll(PARAMETER)) {
    const value = quoted === undefined ? (token ?? '') : quoted.replaceAll(/\\(.)/g, '$1');
    if (name.toLowerCase() === 'charset') charset ??= value.toLowerCase();
    if (name.toLowerCase() === 'boundary') boundary ??= value;
  }
  return { essence, kind: kindOf(essence), charset, boundary };
}

function kindOf(essence: string): MediaKind {
  if (essence === 'application/json' || essence.endsWith('+json') || essence === 'text/json') return 'json';
  if (essence === 'application/x-www-form-urlencoded') return 'form';
  if (essence === 'multipart/form-data') return 'multipart';
  return essence.startsWith('text/') ? 'text' : 'bytes';
}

/** The declared media type or range that takes a content type: itself, then `image/*`, then any type. RFC 9110 §12.5.1. */
export function matchMedia(declared: readonly string[], essence: string): string | undefined {
  if (declared.includes(essence)) return essence;
  const range = `${essence.slice(0, essence.indexOf('/'))}/*`;
  if (declared.includes(range)) return range;
  return declared.includes('*/*') ? '*/*' : undefined;
}

/** Text of a body, or `undefined` where it is none in its charset (UTF-8 unless the content type says otherwise). */
export function decodeBody(body: Buffer, charset: string | undefined): string | undefined {
  if (charset === undefined || charset === 'utf-8' || charset === 'utf8') {
    return isUtf8(body) ? body.toString('utf8') : undefined;
  }
  try {
    return new TextDecoder(charset, { fatal: true }).decode(body);
  } catch {
    // An unknown charset and bytes that are not of it are the same to a client: this is no text we can read.
    return undefined;
  }
}
