import type { Readable } from 'node:stream';

const LINES = 10;
const CHARS = 2_000;
const KEEP_BYTES = 4 * 1024;

/** The end of what a program wrote to stderr. */
export class StderrTail {
  /** The last pieces; those before them are forgotten once these suffice. */
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(stream: Readable | null) {
    stream?.on('data', (chunk: Buffer) => {
      this.#pieces.push(chunk);
      this.#bytes += chunk.length;
      if (this.#bytes < 4 * KEEP_BYTES) return;
      const kept = Buffer.concat(this.#pieces).subarray(-KEEP_BYTES);
      this.#pieces = [Buffer.from(kept)];
      this.#bytes = kept.length;
    });
  }

  get text(): string {
    return Buffer.concat(this.#pieces).subarray(-KEEP_BYTES).toString().trim();
  }

  lastLine(): string {
    return this.text.split('\n').at(-1)?.slice(0, 200) ?? '';
  }

  /** What a program said that could not even start. */
  lastLines(): string {
    return this.text.split('\n').slice(-LINES).join('\n').slice(-CHARS);
  }
}
