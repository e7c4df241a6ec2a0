import formats from 'ajv-formats';
import type { Ajv, Format } from 'ajv';

/** Longest text a format is tried on where its expression may take more than linear time. */
const MAX_FORMAT_LENGTH = 4096;

/** RFC 4648 §4. ajv-formats' own expression accepts any text that has one line of base64 in it. */
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Checked by their full rules, which are short functions over anchored expressions. */
const FULL = ['date', 'time', 'date-time', 'iso-time', 'iso-date-time', 'duration', 'hostname', 'ipv4', 'ipv6', 'uuid'];
const FULL_REST = ['uri-template', 'url', 'json-pointer', 'json-pointer-uri-fragment', 'relative-json-pointer'];
/** Checked by ajv-formats' fast rules: linear, and as strict as a request needs. */
const FAST = ['email', 'uri', 'uri-reference'];
const NUMBERS = ['int32', 'int64', 'float', 'double'];
/** Every format that is checked; any other name is annotation. */
export const FORMAT_NAMES: readonly string[] = [...FULL, ...FULL_REST, ...FAST, ...NUMBERS, 'regex', 'byte'];
/** Long by nature; their rules are linear in the text. */
const UNBOUNDED = new Set(['uri', 'uri-reference']);

/**
 * Adds the formats of JSON Schema and OpenAPI. None takes more than linear time: `url` of ajv-formats is quadratic,
 * so those that are not long by nature are tried on at most 4 096 characters.
 */
export function addFormats(ajv: Ajv): void {
  for (const name of [...FULL, ...FULL_REST]) ajv.addFormat(name, bounded(formats.default.get(name as 'date')));
  for (const name of FAST) {
    const format = formats.default.get(name as 'uri', 'fast');
    ajv.addFormat(name, UNBOUNDED.has(name) ? format : bounded(format));
  }
  for (const name of NUMBERS) ajv.addFormat(name, formats.default.get(name as 'int32'));
  ajv.addFormat('regex', bounded(isRegExp));
  ajv.addFormat('byte', isBase64);
  ajv.addFormat('binary', true);
  ajv.addFormat('password', true);
}

function bounded(format: Format): Format {
  if (typeof format === 'boolean' || typeof format === 'string') return format;
  if (format instanceof RegExp) return (text: string) => text.length <= MAX_FORMAT_LENGTH && format.test(text);
  if (typeof format === 'function') return (text: string) => text.length <= MAX_FORMAT_LENGTH && format(text);
  const { validate } = format;
  return bounded(validate as Format);
}

function isBase64(text: string): boolean {
  return text.length % 4 === 0 && BASE64.test(text);
}

function isRegExp(text: string): boolean {
  try {
    return new RegExp(text, 'u') instanceof RegExp;
  } catch {
    // The constructor has no other way to say no.
    return false;
  }
}
