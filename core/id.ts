import { randomFillSync } from 'node:crypto';
import { ID_BYTES } from './wire/envelope.ts';

export { ID_BYTES };

const seed = randomFillSync(Buffer.allocUnsafe(16));
let counter = seed.readUInt32BE(12);
const pool = Buffer.allocUnsafe(6 * 512);
let used = pool.length;

/**
 * Writes a new UUIDv7 (RFC 9562 §5.7) into `target` and returns its last 32 bits, which count up within this
 * process: whoever waits for a reply finds it by that number, without building a string.
 * The remaining random bits come from the operating system, refilled 512 ids at a time.
 */
export function writeId(target: Buffer, offset: number, nowMs = Date.now()): number {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  target.writeUIntBE(nowMs, offset, 6);
  pool.copy(target, offset + 6, used, used + 6);
  used += 6;
  target[offset + 6] = 0x70 | ((target[offset + 6] ?? 0) & 0x0f);
  target[offset + 8] = 0x80 | ((target[offset + 8] ?? 0) & 0x3f);
  counter = (counter + 1) >>> 0;
  target.writeUInt32BE(counter, offset + 12);
  return counter;
}

/** A new UUIDv7 as text, for anything that is not on the path of a call. */
export function newId(): string {
  const bytes = Buffer.allocUnsafe(ID_BYTES);
  writeId(bytes, 0);
  return formatId(bytes, 0);
}

/** The 36-character form of the id at `offset`. */
export function formatId(bytes: Buffer, offset: number): string {
  const hex = bytes.toString('hex', offset, offset + ID_BYTES);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The 16 bytes of an id as text, or `undefined` when it is not one. */
export function parseId(text: string): Buffer | undefined {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)) return undefined;
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}
