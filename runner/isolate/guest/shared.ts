import { Cell, CELLS, CLOCKS, CLOCKS_AT, WINDOW_AT, WINDOW_BYTES } from '../bridge.ts';
import { copyOf } from './bytes.ts';

/**
 * The one piece of memory that host and guest both see. The bundle must never get hold of it, so nothing here goes
 * through a method or a species constructor that the bundle could have replaced: views are made by captured
 * constructors and copied by captured `set`.
 */
const { apply } = Reflect;
const Bytes = Uint8Array;
// oxlint-disable-next-line typescript/unbound-method -- captured, and only ever applied
const { set } = Uint8Array.prototype;
// oxlint-disable-next-line typescript/unbound-method -- the same
const { transfer } = ArrayBuffer.prototype;
/** Memory from this length on is given back when its bytes were taken: the collector lets much of it lie. */
const LONG_BYTES = 16 * 1024;

/** `strict` gives memory that both isolates see; elsewhere it is made here. */
const given: unknown = Reflect.get(globalThis, 'givenMemory');
Reflect.deleteProperty(globalThis, 'givenMemory');
export const shared = (given ?? new ArrayBuffer(WINDOW_AT + WINDOW_BYTES)) as ArrayBuffer;
export const cells = new Int32Array(shared, 0, CELLS);
export const clocks = new Float64Array(shared, CLOCKS_AT, CLOCKS);

/** A copy of the first `length` bytes of the window. */
export function copyOfWindow(length: number): Uint8Array {
  return copyOf(new Bytes(shared, WINDOW_AT, length));
}

let incoming: Uint8Array | undefined;

/** Makes room for bytes that the host is about to send. */
export function announce(bytes: number): void {
  incoming = new Bytes(bytes);
}

/** These bytes are those announced and received, from a host in the same realm. */
export function lend(bytes: Uint8Array): void {
  incoming = bytes;
}

/** Takes over the first `length` bytes of the window as the bytes from `offset` on. */
export function receive(offset: number, length: number): void {
  if (incoming !== undefined) apply(set, incoming, [new Bytes(shared, WINDOW_AT, length), offset]);
}

/** The bytes that were announced and received; the next call gets `undefined`. */
export function received(): Uint8Array | undefined {
  const bytes = incoming;
  incoming = undefined;
  return bytes;
}

let outgoing: Uint8Array | undefined;

/** Says which bytes `takeBytes` copies out. They must be a copy that the bundle cannot reach. */
export function offer(bytes: Uint8Array | undefined): void {
  outgoing = bytes;
  cells[Cell.bytes] = bytes === undefined ? -1 : bytes.length;
}

/** The bytes on offer, for a host in the same realm. */
export function offered(): Uint8Array | undefined {
  return outgoing;
}

/** Copies bytes on offer into the window, from `offset` on; returns how many. */
export function takeBytes(offset: number): number {
  if (outgoing === undefined) return 0;
  const length = outgoing.length - offset < WINDOW_BYTES ? outgoing.length - offset : WINDOW_BYTES;
  const window = new Bytes(shared, WINDOW_AT, WINDOW_BYTES);
  apply(set, window, [new Bytes(outgoing.buffer, outgoing.byteOffset + offset, length)]);
  if (offset + length === outgoing.length && offset + length >= LONG_BYTES) {
    apply(transfer, outgoing.buffer, [0]);
    outgoing = undefined;
  }
  return length;
}
