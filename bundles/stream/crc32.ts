/** CRC-32 as zip and PNG have it, of bytes that come in pieces. Source: RFC 1952 §8. */
const TABLE = Uint32Array.from({ length: 256 }, (_item, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

export class Crc32 {
  #value = 0xffffffff;

  update(bytes: Uint8Array): void {
    let value = this.#value;
    for (let at = 0; at < bytes.length; at++) {
      value = (TABLE[(value ^ (bytes[at] ?? 0)) & 255] ?? 0) ^ (value >>> 8);
    }
    this.#value = value;
  }

  hex(): string {
    return (~this.#value >>> 0).toString(16).padStart(8, '0');
  }
}
