import type { Readable } from 'node:stream';

const KEEP_BYTES = 4 * 1024;

/** The end of what a program wrote to stderr. */
export class StderrTail {
  #bytes = Buffer.alloc(0);

  constructor(stream: Readable | null) {
    stream?.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(-KEEP_BYTES)]).subarray(-KEEP_BYTES);
    });
  }

  get text(): string {
    return this.#bytes.toString().trim();
  }

  lastLine(): string {
    return this.text.split('\n').at(-1)?.slice(0, 200) ?? '';
  }
}
