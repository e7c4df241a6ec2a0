/** Shorter ones are not worth a call, and may share their memory with others. */
const LONG_BYTES = 16 * 1024;
/** What may lie before the bytes in the same memory: the id that a frame begins with. */
const HEAD_BYTES = 16;

/** Gives back the memory of a long buffer that is of no use to anybody any more, where it has memory of its own. */
export function giveBack(bytes: Buffer): void {
  const { buffer } = bytes;
  if (hasOwnMemory(bytes) && buffer instanceof ArrayBuffer) buffer.transfer(0);
}

function hasOwnMemory({ buffer, byteOffset, length }: Buffer): boolean {
  return length >= LONG_BYTES && byteOffset <= HEAD_BYTES && byteOffset + length === buffer.byteLength;
}

/** What bytes are written to: a socket, or the HTTP message on it. */
interface Writer {
  readonly destroyed: boolean;
  /** Bytes handed over, framing and all, and not yet taken by the operating system. */
  readonly writableLength: number;
}

/**
 * Long buffers that were written and are of no use to anybody any more: their memory is given back as soon as the
 * operating system has their bytes, and serves the next read. The collector lets 64 MiB of them lie before it comes, so
 * that every read goes to memory which no cache holds.
 */
export class SpentBuffers {
  #buffers: Buffer[] = [];
  #bytes = 0;

  /** It has just been written, and nobody else has its memory. */
  add(buffer: Buffer): void {
    if (!hasOwnMemory(buffer)) return;
    this.#buffers.push(buffer);
    this.#bytes += buffer.length;
  }

  /** Gives back what lies before the bytes the writer still holds. What a destroyed one holds nobody knows: the collector does. */
  free({ destroyed, writableLength }: Writer): void {
    const buffers = this.#buffers;
    let count = 0;
    for (const buffer of buffers) {
      // Framing counts as held too, so this errs on the safe side.
      if (!destroyed && this.#bytes - buffer.length < writableLength) break;
      this.#bytes -= buffer.length;
      count++;
      if (!destroyed) giveBack(buffer);
    }
    if (count > 0) buffers.splice(0, count);
  }
}
