import { copyOf, viewOf } from './bytes.ts';
import { DOMException } from './dom-exception.ts';
import { begin } from './operations.ts';
import { fillRandom } from './random.ts';

/** The part of Web Crypto a func needs most: random values and digests. Source: https://w3c.github.io/webcrypto/ */

const MAX_RANDOM_BYTES = 65_536;
const INTEGER_ARRAYS = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array];
const DIGESTS = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'];

function isIntegerArray(value: unknown): boolean {
  if (INTEGER_ARRAYS.some((type) => value instanceof type)) return true;
  return value instanceof BigInt64Array || value instanceof BigUint64Array;
}

function getRandomValues<T>(array: T): T {
  const view = isIntegerArray(array) ? viewOf(array) : undefined;
  if (view === undefined) throw new DOMException('getRandomValues takes an array of integers', 'TypeMismatchError');
  if (view.length > MAX_RANDOM_BYTES) {
    throw new DOMException(`${view.length} bytes are more than ${MAX_RANDOM_BYTES}`, 'QuotaExceededError');
  }
  fillRandom(view);
  return array;
}

/** UUID version 4. Source: RFC 9562 §5.4. */
function randomUUID(): string {
  const bytes = new Uint8Array(16);
  fillRandom(bytes);
  bytes[6] = 0x40 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  let text = '';
  for (const [index, byte] of bytes.entries()) {
    if (index === 4 || index === 6 || index === 8 || index === 10) text += '-';
    text += byte.toString(16).padStart(2, '0');
  }
  return text;
}

async function digest(algorithm: string | { name: string }, data: unknown): Promise<ArrayBuffer> {
  const name = (typeof algorithm === 'string' ? algorithm : algorithm.name).toUpperCase();
  if (!DIGESTS.includes(name)) throw new DOMException(`digest ${name} is not supported`, 'NotSupportedError');
  const view = viewOf(data);
  if (view === undefined) throw new TypeError('digest takes an ArrayBuffer or a view of one');
  const { bytes } = await begin('digest', { algorithm: name }, copyOf(view)).outcome;
  return (bytes ?? new Uint8Array(0)).buffer as ArrayBuffer;
}

export const crypto = Object.freeze({ getRandomValues, randomUUID, subtle: Object.freeze({ digest }) });
