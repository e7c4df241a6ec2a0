import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../core/log.ts';

/** It holds for one version of V8 on one kind of processor; another one reads another file. */
const FILE = `bundle.${process.versions.v8}.${process.arch}.cache`;

/**
 * V8's code cache of one bundle's text, so that its next worker does not compile again what an earlier one has: kept
 * beside the bundle on the disk, and in memory only where the disk does not take it: most bundles are idle. It comes from a worker, a stranger, and goes to workers of the same digest
 * only. V8 refuses one that is damaged or not its own, which costs time and nothing else.
 */
export class CodeCache {
  readonly #file: string;
  readonly #log: Log;
  /** While it is not on the disk. */
  #bytes: Buffer | undefined;
  #isKept = false;

  constructor(file: string, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  /** For one worker; undefined when there is none yet, or none that can be read: that worker makes one. */
  async read(): Promise<Buffer | undefined> {
    if (this.#bytes !== undefined) return this.#bytes;
    try {
      return await readFile(this.#file);
    } catch {
      return undefined;
    }
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
      this.#bytes = undefined;
    } catch (error) {
      this.#log.debug({ err: error, file: this.#file }, 'cannot keep a code cache on disk; it stays in memory');
    }
  }
}

/** The code cache of the bundle in this folder, with what earlier runs have left there. */
export function createCodeCache(folder: string, log: Log): CodeCache {
  return new CodeCache(join(folder, FILE), log);
}
