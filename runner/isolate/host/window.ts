import { Cell, StreamEvent, WINDOW_BYTES } from '../bridge.ts';
import type { Realm } from './realm.ts';

/** Bytes across the bridge, a window at a time. */

/** Gives the guest bytes for its next `enter` or `settle`. */
export function writeBytes(realm: Realm, bytes: Buffer): void {
  const { guest, window } = realm;
  guest.announce(bytes.length);
  for (let at = 0; at < bytes.length; at += WINDOW_BYTES) {
    const length = bytes.copy(window, 0, at, at + WINDOW_BYTES);
    guest.receive(at, length);
  }
}

/** Gives the guest bytes as the next piece of a body: one that the window takes whole crosses at once. */
export function streamBytes(realm: Realm, number: number, bytes: Buffer): void {
  const { guest, window } = realm;
  if (bytes.length > WINDOW_BYTES) {
    writeBytes(realm, bytes);
    guest.stream(StreamEvent.data, number, 0, '');
  } else if (bytes.length > 0) guest.stream(StreamEvent.data, number, bytes.copy(window), '');
}

/** The bytes of what the guest has just handed out, if it has any. */
export function readBytes(realm: Realm): Buffer | undefined {
  const { cells, guest, window } = realm;
  const length = cells[Cell.bytes] ?? -1;
  if (length < 0) return undefined;
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += WINDOW_BYTES) {
    guest.takeBytes(at);
    window.copy(bytes, at, 0, Math.min(WINDOW_BYTES, length - at));
  }
  return bytes;
}
