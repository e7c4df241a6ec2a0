import { backoffMs } from '../core/deadline.ts';
import { delay, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';
import { StoreKey } from '../core/wire/control.ts';

export interface LeaderOptions {
  readonly store: Store;
  /** Id of this Tron. */
  readonly id: string;
  readonly leaseMs: number;
  readonly log: Log;
  /**
   * Leads until the signal aborts, then settles with everything released. Settling or throwing earlier gives the lead
   * up.
   */
  lead(signal: AbortSignal): Promise<void>;
}

export interface Leader extends Closable {
  /** `unknown` while the store does not answer. */
  readonly state: 'leading' | 'following' | 'unknown';
}

/**
 * Competes for the lease on `StoreKey.leader`, renews it every third of its time and leads while it holds. When it
 * cannot be renewed in time the lead ends by our own clock; should that be late (a paused process), the fenced writes
 * of `FencedKey` are refused.
 *
 * States: following → (lease taken) leading → (lease lost, not renewed, or `lead` ended) following → … → closed.
 */
export function openLeader(options: LeaderOptions): Leader {
  const { store, id, leaseMs, log } = options;
  const stop = new AbortController();
  let state: Leader['state'] = 'unknown';
  let closing: Promise<void> | undefined;
  const competing = compete();

  async function compete(): Promise<void> {
    for (let attempt = 0; !stop.signal.aborted;) {
      const askedAt = performance.now();
      const isOurs = await ask();
      if (isOurs === undefined) state = 'unknown';
      else if (!isOurs) state = 'following';
      else if (await reign(askedAt)) attempt = 0;
      else await delay(backoffMs(attempt++, 100, leaseMs), stop.signal);
      await delay(leaseMs / 3, stop.signal);
    }
  }

  /** Whether the lease is ours for `leaseMs` from now; `undefined` when the store does not say. */
  async function ask(): Promise<boolean | undefined> {
    try {
      return await store.acquireLease(StoreKey.leader, id, leaseMs);
    } catch (error) {
      log.warn({ err: error }, 'cannot ask the store who leads');
      return undefined;
    }
  }

  /** Leads for as long as it lasts; false when leading itself failed. */
  async function reign(askedAt: number): Promise<boolean> {
    const over = new AbortController();
    const signal = AbortSignal.any([stop.signal, over.signal]);
    let expiry = expireAt(askedAt + leaseMs, over);
    let isWell = true;
    state = 'leading';
    const leading = options.lead(signal).catch((error: unknown) => {
      isWell = false;
      // A lead that was lost while it was being taken up ends with an error too.
      if (!signal.aborted) log.error({ err: error }, 'leading failed');
    });
    void leading.then(() => over.abort());
    for (;;) {
      await delay(leaseMs / 3, signal);
      if (signal.aborted) break;
      const renewedAt = performance.now();
      const isOurs = await ask();
      // Unanswered: asked again, until the timer says that the lease has run out.
      if (isOurs === undefined) continue;
      clearTimeout(expiry);
      expiry = expireAt(isOurs ? renewedAt + leaseMs : renewedAt, over);
    }
    clearTimeout(expiry);
    await leading;
    state = 'following';
    await store.releaseLease(StoreKey.leader, id).catch((error: unknown) => {
      log.debug({ err: error }, 'cannot give the lease back; it runs out by itself');
    });
    return isWell;
  }

  return {
    get state() {
      return state;
    },
    close: () => (closing ??= Promise.resolve(stop.abort()).then(() => competing)),
  };
}

function expireAt(at: number, over: AbortController): NodeJS.Timeout {
  return setTimeout(() => over.abort(), Math.max(0, at - performance.now()));
}
