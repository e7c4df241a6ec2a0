/**
 * Random bytes inside the guest, without asking the host: ChaCha20 keyed with 256 bits from the operating system,
 * replacing its key from every block run, so that no state ever tells what came before.
 * Sources: RFC 8439 §2.3 (block function); D. J. Bernstein, "Fast-key-erasure random-number generators", 2017.
 */

const BLOCK_WORDS = 16;
const KEY_WORDS = 8;
const CONSTANTS = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;

const state = new Uint32Array(BLOCK_WORDS);
const block = new Uint32Array(BLOCK_WORDS);
const blockBytes = new Uint8Array(block.buffer);
/** Bytes of the block that have been given out; its first 32 become the next key and are never given. */
let used = BLOCK_WORDS * 4;

/** Keys the generator with 32 bytes. */
export function seedRandom(seed: Uint8Array): void {
  state.set(CONSTANTS, 0);
  state.set(new Uint32Array(seed.buffer, seed.byteOffset, KEY_WORDS), CONSTANTS.length);
  used = BLOCK_WORDS * 4;
}

/** Fills `target` with random bytes. */
export function fillRandom(target: Uint8Array): void {
  for (let at = 0; at < target.length; at++) {
    if (used === BLOCK_WORDS * 4) refill();
    target[at] = blockBytes[used] ?? 0;
    blockBytes[used++] = 0;
  }
}

function refill(): void {
  block.set(state);
  for (let round = 0; round < 10; round++) {
    quarter(0, 4, 8, 12);
    quarter(1, 5, 9, 13);
    quarter(2, 6, 10, 14);
    quarter(3, 7, 11, 15);
    quarter(0, 5, 10, 15);
    quarter(1, 6, 11, 12);
    quarter(2, 7, 8, 13);
    quarter(3, 4, 9, 14);
  }
  for (let word = 0; word < BLOCK_WORDS; word++) block[word] = (block[word] ?? 0) + (state[word] ?? 0);
  state.set(block.subarray(0, KEY_WORDS), CONSTANTS.length);
  block.fill(0, 0, KEY_WORDS);
  used = KEY_WORDS * 4;
}

function quarter(a: number, b: number, c: number, d: number): void {
  mix(a, b, d, 16);
  mix(c, d, b, 12);
  mix(a, b, d, 8);
  mix(c, d, b, 7);
}

/** `sum += add; turned = rotate(turned ^ sum, bits)`. */
function mix(sum: number, add: number, turned: number, bits: number): void {
  const total = ((block[sum] ?? 0) + (block[add] ?? 0)) >>> 0;
  block[sum] = total;
  const mixed = (block[turned] ?? 0) ^ total;
  block[turned] = (mixed << bits) | (mixed >>> (32 - bits));
}
