/** So many bytes fit before a sum leaves 31 bits. */
const RUN_BYTES = 3_800;
const BASE = 65_521;

/** Adler-32 in plain code: what a func without native hashes can do to bytes as they come. Source: RFC 1950 §8.2 */
export class Checksum {
  bytes = 0;
  #low = 1;
  #high = 0;

  add(piece: Uint8Array): void {
    this.bytes += piece.length;
    let low = this.#low;
    let high = this.#high;
    for (let at = 0; at < piece.length;) {
      const end = Math.min(at + RUN_BYTES, piece.length);
      for (; at < end; at++) {
        low += piece[at] ?? 0;
        high += low;
      }
      low %= BASE;
      high %= BASE;
    }
    this.#low = low;
    this.#high = high;
  }

  /** In hex. */
  get value(): string {
    return ((this.#high * 2 ** 16 + this.#low) >>> 0).toString(16).padStart(8, '0');
  }
}
