import { viewOf } from './bytes.ts';

/**
 * PostgreSQL's values as JavaScript's. They cross as PostgreSQL writes them, so the isolate and not the runner reads them.
 *
 * boolean → boolean · int2, int4, oid, float4, float8 → number · json, jsonb → the value · bytea → Uint8Array · all
 * else (int8, numeric, dates, arrays …) → string, as PostgreSQL writes it: no digit and no microsecond is lost.
 */

/** A column: its name and the OID of its type. */
export interface Field {
  readonly name: string;
  readonly type: number;
}
export type Row = Record<string, unknown>;

/** OIDs of pg_type.dat: the same in every PostgreSQL. */
const DECODE: Readonly<Record<number, (text: string) => unknown>> = {
  16: (text) => text === 't',
  17: decodeHex,
  21: Number,
  23: Number,
  26: Number,
  114: (text) => JSON.parse(text),
  700: Number,
  701: Number,
  3802: (text) => JSON.parse(text),
};

/** A row by column name; of two columns with one name the last counts. */
export function decodeRow(fields: readonly Field[], values: readonly (string | null)[]): Row {
  const row: Row = {};
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index];
    const text = values[index];
    if (field === undefined) continue;
    const decode = DECODE[field.type];
    row[field.name] = text === null || text === undefined ? null : decode === undefined ? text : decode(text);
  }
  return row;
}

/** A parameter as JSON carries it: bytes as bytea text, dates as ISO 8601, bigint as digits; arrays stay arrays, objects become JSON there. */
export function encodeParameter(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (value === undefined || typeof value !== 'object' || value === null) return value ?? null;
  const view = viewOf(value);
  return view === undefined ? value : encodeHex(view);
}

const DIGITS = '0123456789abcdef';

function encodeHex(bytes: Uint8Array): string {
  let text = '\\x';
  for (const byte of bytes) text += `${DIGITS[byte >> 4] ?? ''}${DIGITS[byte & 15] ?? ''}`;
  return text;
}

/** The `hex` output format, PostgreSQL's default; the older `escape` format stays text. */
function decodeHex(text: string): unknown {
  if (!text.startsWith('\\x')) return text;
  const bytes = new Uint8Array((text.length - 2) / 2);
  for (let index = 0; index < bytes.length; index++)
    bytes[index] = parseInt(text.slice(2 + index * 2, 4 + index * 2), 16);
  return bytes;
}
