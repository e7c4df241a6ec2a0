import type { Json, JsonObject } from './api.ts';

/** Whether a value of a parsed document is an object (and no list). */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value as an object; an empty one where the document has something else there. */
export function objectAt(value: unknown, key: string): JsonObject {
  const member = memberOf(value, key);
  return isObject(member) ? member : {};
}

/** The value as a list; an empty one where the document has something else there. */
export function listAt(value: unknown, key: string): readonly Json[] {
  const member = memberOf(value, key);
  return Array.isArray(member) ? member : [];
}

/** The value as text, where it is text. */
export function textAt(value: unknown, key: string): string | undefined {
  const member = memberOf(value, key);
  return typeof member === 'string' ? member : undefined;
}

/** An own member of an object; never what a prototype has. */
export function memberOf(value: unknown, key: string): Json | undefined {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

/** Appends tokens to a JSON pointer. RFC 6901 §3. */
export function pointerTo(pointer: string, ...tokens: readonly (string | number)[]): string {
  let result = pointer;
  for (const token of tokens) result += `/${String(token).replaceAll('~', '~0').replaceAll('/', '~1')}`;
  return result;
}

/** The tokens of a JSON pointer. RFC 6901 §4. */
export function pointerTokens(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** The value a JSON pointer names, or `undefined`. */
export function valueAt(root: unknown, pointer: string): Json | undefined {
  let value = root;
  for (const token of pointerTokens(pointer)) {
    if (Array.isArray(value)) value = /^(?:0|[1-9]\d*)$/.test(token) ? value[Number(token)] : undefined;
    else value = memberOf(value, token);
    if (value === undefined) return undefined;
  }
  return value as Json;
}

/** The JSON pointer of an internal `$ref` (`#/components/…`), percent-decoded; `undefined` for any other. */
export function refPointer(ref: string): string | undefined {
  if (!ref.startsWith('#/')) return undefined;
  try {
    return decodeURIComponent(ref.slice(1));
  } catch {
    // A malformed escape names nothing; a name that holds a bare % is taken as it is.
    return ref.slice(1);
  }
}
