/** Names (decoded) with their values exactly as sent; a list where a name came several times. */
export type RawPairs = Map<string, string | string[]>;

/** The pairs of nothing. Never written to. */
export const NO_PAIRS: RawPairs = new Map();

/** Most pairs that are read of one query or form. */
const MAX_PAIRS = 1_000;

/** A percent-encoding that is none, or more pairs than are read. */
export class MalformedText extends Error {
  override readonly name = 'MalformedText';
}

/** What is wrong with a text, for people; anything else that was thrown is a defect and goes on. */
export function malformed(error: unknown): string {
  if (error instanceof MalformedText) return error.message;
  throw error;
}

/** Splits a query or an `application/x-www-form-urlencoded` body. Throws `MalformedText`. */
export function parsePairs(text: string): RawPairs {
  if (text === '') return NO_PAIRS;
  const pairs: RawPairs = new Map();
  let count = 0;
  let at = 0;
  while (at <= text.length) {
    let end = text.indexOf('&', at);
    if (end < 0) end = text.length;
    if (end > at) {
      if (++count > MAX_PAIRS) throw new MalformedText(`has more than ${MAX_PAIRS} pairs`);
      let equals = text.indexOf('=', at);
      if (equals < 0 || equals > end) equals = end;
      addPair(pairs, decodeText(text.slice(at, equals)), text.slice(equals + 1, end));
    }
    at = end + 1;
  }
  return pairs;
}

/** Splits a `Cookie` header. RFC 6265 §5.4. */
export function parseCookies(header: string): RawPairs {
  const pairs: RawPairs = new Map();
  for (const part of header.split(';', MAX_PAIRS)) {
    const equals = part.indexOf('=');
    if (equals <= 0) continue;
    const value = part.slice(equals + 1).trim();
    const quoted = value.length > 1 && value.startsWith('"') && value.endsWith('"');
    addPair(pairs, part.slice(0, equals).trim(), quoted ? value.slice(1, -1) : value);
  }
  return pairs;
}

/** Decodes percent-encoding and `+` as HTML forms and every query library write them. Throws `MalformedText`. */
export function decodeText(raw: string): string {
  const text = raw.includes('+') ? raw.replaceAll('+', ' ') : raw;
  return decodeOctets(text);
}

/** Decodes percent-encoding only. Throws `MalformedText`. */
export function decodeOctets(raw: string): string {
  if (!raw.includes('%')) return raw;
  try {
    return decodeURIComponent(raw);
  } catch {
    throw new MalformedText('has malformed percent-encoding');
  }
}

/** The value as the text and lists a func sees where no schema says more. */
export function decodeAll(raw: string | readonly string[], decode: (raw: string) => string): string | string[] {
  return typeof raw === 'string' ? decode(raw) : raw.map(decode);
}

function addPair(pairs: RawPairs, name: string, value: string): void {
  const known = pairs.get(name);
  if (known === undefined) pairs.set(name, value);
  else if (typeof known === 'string') pairs.set(name, [known, value]);
  else known.push(value);
}
