import type { Closable } from '../lifecycle.ts';

/**
 * The store interface: bytes by key, compare-and-set and leases. Two implementations (`redis.ts`, `sqlite.ts`) pass
 * one contract suite. Every method throws STORE_DOWN when the store cannot be reached within two seconds, and none is
 * repeated behind the caller's back unless it is idempotent.
 */
export interface Store extends Closable {
  readonly kind: 'redis' | 'sqlite';
  /** Whether the last word from the store was good; changes by itself as the connection comes and goes. */
  readonly isUp: boolean;

  get(key: string): Promise<Buffer | undefined>;
  set(key: string, value: Uint8Array | string, options?: SetOptions): Promise<boolean>;
  /** Deletes keys; returns how many were there. */
  delete(...keys: readonly string[]): Promise<number>;

  /** Sets `key` to `next` only if it holds exactly `expected` (`undefined`: nothing). Atomic. */
  compareAndSet(key: string, expected: string | undefined, next: string): Promise<boolean>;

  /** Adds `by` to the decimal integer under `key` (0 when absent) and returns the sum. Atomic. */
  increment(key: string, by: number, ttlMs?: number): Promise<number>;

  /** Keys that begin with `prefix`, sorted. Not for hot paths. */
  keys(prefix: string): Promise<readonly string[]>;

  /**
   * Takes or renews a lease: true when `owner` holds `key` now, for `ttlMs` from now. Atomic, by the store's clock.
   */
  acquireLease(key: string, owner: string, ttlMs: number): Promise<boolean>;
  /** Gives the lease up if `owner` holds it. */
  releaseLease(key: string, owner: string): Promise<void>;
  /** Who holds the lease now. */
  leaseOwner(key: string): Promise<string | undefined>;
}

export interface SetOptions {
  /** Milliseconds until the value is gone. */
  readonly ttlMs?: number;
  /** Set only when the key is absent; `set` then says whether it was. */
  readonly ifAbsent?: boolean;
}
