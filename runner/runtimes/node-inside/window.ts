import { pushPiece } from '../../isolate/guest/incoming.ts';
import { lend, offered } from '../../isolate/guest/shared.ts';
import type { Realm } from './realm.ts';

/** In place of the host's own: host and guest share a realm, so bytes cross as they are. */

export function writeBytes(_realm: Realm, bytes: Buffer): void {
  lend(new Uint8Array(bytes));
}

/** A copy is the bundle's to keep: what was read is only lent. */
export function streamBytes(_realm: Realm, number: number, bytes: Buffer): void {
  if (bytes.length > 0) pushPiece(number, new Uint8Array(bytes));
}

export function readBytes(_realm: Realm): Buffer | undefined {
  const bytes = offered();
  return bytes === undefined ? undefined : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
