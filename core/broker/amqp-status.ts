import type { BrokerChange, BrokerState } from './broker.ts';

/** The broker's state, and who hears of its changes. Once `closed` it stays so. */
export class BrokerStatus {
  readonly #listeners = new Set<(change: BrokerChange) => void>();
  #state: BrokerState = 'connecting';

  get state(): BrokerState {
    return this.#state;
  }

  /** Connected, even if the broker asks publishers to wait. */
  get isUp(): boolean {
    return this.#state === 'ready' || this.#state === 'blocked';
  }

  /** Tells every listener, if it is a change. */
  change(change: BrokerChange): void {
    if (change.state === this.#state || this.#state === 'closed') return;
    this.#state = change.state;
    for (const listener of this.#listeners) listener(change);
  }

  onState(listener: (change: BrokerChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Settles with `true` once it is up, with `false` when it is closed or the signal aborts first. */
  ready(signal?: AbortSignal): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const look = (): void => {
      if (this.isUp) resolve(true);
      else if (this.#state === 'closed' || signal?.aborted === true) resolve(false);
    };
    const stop = this.onState(look);
    signal?.addEventListener('abort', look, { once: true });
    look();
    return promise.finally(() => {
      stop();
      signal?.removeEventListener('abort', look);
    });
  }
}
