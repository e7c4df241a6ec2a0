import { backoffMs } from '../core/deadline.ts';
import { FuncatronError } from '../core/errors.ts';
import { delay } from '../core/lifecycle.ts';
import type { Store } from '../core/store/store.ts';

/**
 * One key of the store that only the leading Tron writes. Every write is a compare-and-set against the text this
 * leader last read or wrote, and every text holds its writer's term, so the first write of a new leader makes all
 * later ones of the old leader fail, however long that one was paused.
 */
export class FencedKey {
  readonly #store: Store;
  readonly #key: string;
  readonly #signal: AbortSignal;
  #text: string | undefined;

  /** @param signal aborts when this Tron no longer leads */
  constructor(store: Store, key: string, signal: AbortSignal) {
    this.#store = store;
    this.#key = key;
    this.#signal = signal;
  }

  /** The text under the key now, which the next write must still find there. @throws STORE_DOWN */
  async load(): Promise<string | undefined> {
    this.#text = (await this.#store.get(this.#key))?.toString();
    return this.#text;
  }

  /**
   * Replaces the text. Goes on trying while the store is down, as long as this Tron leads: what a half-done change
   * needs is that its outcome gets written, not another error.
   * @throws NO_LEADER when somebody else has written meanwhile, or the lead was lost
   */
  async write(next: string): Promise<void> {
    for (let attempt = 0; !this.#signal.aborted; attempt++) {
      try {
        if (await this.#replace(next)) return;
        break;
      } catch (error) {
        if (!(error instanceof FuncatronError) || error.code !== 'STORE_DOWN') throw error;
        await delay(backoffMs(attempt, 50, 1_000), this.#signal);
      }
    }
    throw lostLead();
  }

  async #replace(next: string): Promise<boolean> {
    const done =
      (await this.#store.compareAndSet(this.#key, this.#text, next)) ||
      // The answer to an earlier attempt may have been lost after it was carried out.
      (await this.#store.get(this.#key))?.toString() === next;
    if (done) this.#text = next;
    return done;
  }
}

/** What a command gets from a Tron that led when it came and no longer does. */
export function lostLead(): FuncatronError {
  return new FuncatronError('NO_LEADER', 'this tron stopped leading before the change was done', {
    data: { retryAfterS: 1, hint: 'ask again: the next leader finishes the change or takes it back' },
  });
}
