import { FuncatronError } from '../errors.ts';
import type { Closable } from '../lifecycle.ts';

/**
 * The store interface: bytes by key, compare-and-set and leases. Two implementations (`redis.ts`, `sqlite.ts`) pass
 * one contract suite. Every method throws STORE_DOWN when the store cannot be reached within two seconds, and none is
 * repeated behind the caller's back unless it is idempotent. Leases live among the other keys.
 */
export interface Store extends Closable {
  readonly kind: 'redis' | 'sqlite';
  /** Whether the last word from the store was good; changes by itself as the connection comes and goes. */
  readonly isUp: boolean;
  /** What answers: `redis 7.0.15`, `valkey 8.1.1`; absent for SQLite. */
  describeServer?(): Promise<string>;

  get(key: string): Promise<Buffer | undefined>;
  set(key: string, value: Uint8Array | string, options?: SetOptions): Promise<boolean>;
  /** Deletes keys; returns how many were there. */
  delete(...keys: readonly string[]): Promise<number>;

  /** Sets `key` to `next` only if it holds exactly `expected` (`undefined`: nothing). Atomic. */
  compareAndSet(key: string, expected: string | undefined, next: string): Promise<boolean>;

  /**
   * Adds `by` to the decimal integer under `key` (0 when absent) and returns the sum. Atomic.
   * `ttlMs` counts from the first increment, the one that creates the key; later ones do not prolong it.
   * @throws INVALID_REQUEST when the value is no integer, or the sum no safe one; nothing is changed then
   */
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

/** The time to live itself, when it is one: both stores refuse the same values. @throws INVALID_REQUEST */
export function checkTtl(ttlMs: number): number {
  if (Number.isSafeInteger(ttlMs) && ttlMs >= 1) return ttlMs;
  throw new FuncatronError('INVALID_REQUEST', `a time to live is a whole number of milliseconds from 1, not ${ttlMs}`);
}

/** What to add itself, when it is a whole number. @throws INVALID_REQUEST */
export function checkIncrement(by: number): number {
  if (Number.isSafeInteger(by)) return by;
  throw new FuncatronError('INVALID_REQUEST', `only whole numbers can be added, not ${by}`);
}

/** What `increment` throws when the value is not a decimal integer, or the sum is none that is safe in a double. */
export function notAnInteger(key: string): FuncatronError {
  return new FuncatronError('INVALID_REQUEST', `could not increment "${key}": the value or the sum is no safe integer`);
}
