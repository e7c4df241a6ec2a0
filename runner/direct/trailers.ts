import { validateHeaderName, validateHeaderValue } from 'node:http';
import { CONNECTION_HEADERS } from '../../core/wire/connection-headers.ts';

/** Longest trailers of an answer, as JSON. */
const MAX_TRAILERS_BYTES = 8 * 1024;

/**
 * Trailers as a worker gives them, which is a stranger: a JSON object, or nothing. `undefined` when they cannot be sent.
 * Those that would say how the message is framed are left out. RFC 9110 §6.5.1.
 */
export function readTrailers(json: Buffer): Readonly<Record<string, string>> | undefined {
  if (json.length === 0) return NONE;
  if (json.length > MAX_TRAILERS_BYTES) return undefined;
  try {
    const given: unknown = JSON.parse(json.toString());
    if (typeof given !== 'object' || given === null) return undefined;
    const trailers: Record<string, string> = {};
    for (const [name, value] of Object.entries(given)) {
      if (CONNECTION_HEADERS.has(name.toLowerCase())) continue;
      const text = String(value);
      validateHeaderName(name);
      validateHeaderValue(name, text);
      trailers[name] = text;
    }
    return trailers;
  } catch {
    return undefined; // No JSON, or no header.
  }
}

const NONE: Readonly<Record<string, string>> = {};
