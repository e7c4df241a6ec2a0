import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../core/log.ts';

/** It holds for one version of V8 on one kind of processor; another one reads another file. */
const FILE = `bundle.${process.versions.v8}.${process.arch}.cache`;

/**
 * V8's code cache of one bundle's text, so that its next worker does not compile again what an earlier one has: kept in
 * memory, and beside the bundle on the disk. It comes from a worker, a stranger, and goes to workers of the same digest
 * only. V8 refuses one that is damaged or not its own, which costs time and nothing else.
 */
export class CodeCache {
  readonly #file: string;
  readonly #log: Log;
  #bytes: Buffer | undefined;
  #isKept = false;

  constructor(file: string, bytes: Buffer | undefined, log: Log) {
    this.#file = file;
    this.#bytes = bytes;
    this.#log = log;
  }

  get bytes(): Buffer | undefined {
    return this.#bytes;
  }

  /** Takes what a worker has made. The first one counts: whoever has a cache makes none, unless V8 refused the one on the disk. */
  keep(bytes: Buffer): void {
    if (this.#isKept) return;
    this.#isKept = true;
    // A copy: the frame it came in may be larger.
    this.#bytes = Buffer.from(bytes);
    void this.#write(this.#bytes);
  }

  /** Written beside and renamed, so that the file is always whole. */
  async #write(bytes: Buffer): Promise<void> {
    try {
      const fresh = `${this.#file}.${process.pid}.new`;
      await writeFile(fresh, bytes, { mode: 0o600 });
      await rename(fresh, this.#file);
    } catch (error) {
      this.#log.debug({ err: error, file: this.#file }, 'cannot keep a code cache on disk; the next start is slower');
    }
  }
}

/** The code cache of the bundle in this folder, with what earlier runs have left there. */
export async function openCodeCache(folder: string, log: Log): Promise<CodeCache> {
  const file = join(folder, FILE);
  let bytes: Buffer | undefined;
  try {
    bytes = await readFile(file);
  } catch {
    // None yet, or none that can be read: the first worker makes one.
  }
  return new CodeCache(file, bytes, log);
}
