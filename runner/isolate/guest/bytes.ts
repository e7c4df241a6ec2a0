/** What is bytes to a guest, and copies of it that the bundle cannot change. */

const { apply, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
const Bytes = Uint8Array;
const Buffers = ArrayBuffer;
const isView = (value: unknown): value is ArrayBufferView => ArrayBuffer.isView(value);
// oxlint-disable-next-line typescript/unbound-method -- captured, and only ever applied
const { set } = Uint8Array.prototype;

function getter(owner: object, name: PropertyKey): () => unknown {
  return getOwnPropertyDescriptor(owner, name)?.get ?? (() => undefined);
}

const TypedArrayPrototype = getPrototypeOf(Uint8Array.prototype) ?? {};
const tagOf = getter(TypedArrayPrototype, Symbol.toStringTag);
const bufferOf = getter(TypedArrayPrototype, 'buffer');
const offsetOf = getter(TypedArrayPrototype, 'byteOffset');
const lengthOf = getter(TypedArrayPrototype, 'byteLength');
const viewBufferOf = getter(DataView.prototype, 'buffer');
const viewOffsetOf = getter(DataView.prototype, 'byteOffset');
const viewLengthOf = getter(DataView.prototype, 'byteLength');
const bufferLengthOf = getter(ArrayBuffer.prototype, 'byteLength');

/** A `Uint8Array` of its own over the memory of a typed array, a `DataView` or an `ArrayBuffer`; `undefined` for anything else. */
export function viewOf(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (isView(value)) {
    const isTyped = apply(tagOf, value, []) !== undefined;
    const buffer = apply(isTyped ? bufferOf : viewBufferOf, value, []) as ArrayBuffer;
    const offset = apply(isTyped ? offsetOf : viewOffsetOf, value, []) as number;
    return new Bytes(buffer, offset, apply(isTyped ? lengthOf : viewLengthOf, value, []) as number);
  }
  // Most values are neither: asking the getter first would throw at every one of them (a third of a call's cost).
  if (!(value instanceof Buffers)) return undefined;
  try {
    apply(bufferLengthOf, value, []);
  } catch {
    return undefined; // only dressed as one
  }
  return new Bytes(value);
}

/** A copy of the bytes. Made in one go its memory is not filled with zeros first (64 KiB: 9 instead of 14 µs). */
export function copyOf(view: Uint8Array): Uint8Array {
  return new Bytes(view);
}

/** The pieces one after the other, in a new array. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const whole = new Bytes(length);
  let at = 0;
  for (const piece of pieces) {
    apply(set, whole, [piece, at]);
    at += piece.length;
  }
  return whole;
}
