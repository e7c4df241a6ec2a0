import type { Readable } from 'node:stream';
import type { WorkerExit } from './isolate.ts';

const KEEP_CHARS = 16 * 1024;
/** What V8, Node and libstdc++ say when memory is refused them. */
const OUT_OF_MEMORY = /out of memory|heap limit|Allocation failed|bad_alloc|OOM|Cannot allocate memory/i;

/** The end of what a worker's process wrote to stderr: nothing but V8's last words is ever there. */
export class Stderr {
  #text = '';

  constructor(stream: Readable | null) {
    stream?.setEncoding('latin1');
    stream?.on('data', (text: string) => {
      this.#text = (this.#text + text).slice(-KEEP_CHARS);
    });
  }

  /** What it said last, for an end that nobody expected. */
  lastLine(): string {
    return this.#text.trim().split('\n').at(-1)?.slice(0, 200) ?? '';
  }

  /** Says that the process ran out of memory, if that is what it died of. */
  memoryExit(): WorkerExit | undefined {
    const line = this.#text.split('\n').find((text) => OUT_OF_MEMORY.test(text));
    return line === undefined ? undefined : { reason: 'memory', detail: line.trim().slice(0, 200) };
  }
}
