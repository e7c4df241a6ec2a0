import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { FuncatronError } from '../errors.ts';
import type { Log } from '../log.ts';
import { checkIncrement, checkTtl, notAnInteger, type SetOptions, type Store } from './store.ts';

/** How long a write waits for another process that holds the file, in ms. It blocks the event loop, so it stays short. */
const BUSY_TIMEOUT_MS = 1_000;
const PURGE_EVERY_MS = 60_000;

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_at REAL) STRICT;
  CREATE INDEX IF NOT EXISTS entry_expiry ON entry (expires_at) WHERE expires_at IS NOT NULL;
`;

/**
 * The store of an embedded cluster: one SQLite file. Leases are entries whose value is the owner.
 *
 * A killed process loses nothing. `synchronous = NORMAL` in WAL mode can lose the last commits when the *machine*
 * loses power, never corrupt the file: a single write costs 40 µs that way and 260 µs with FULL.
 * Source: https://sqlite.org/pragma.html#pragma_synchronous
 * @throws STORE_DOWN when the file cannot be opened
 */
export async function openSqliteStore(options: { file: string; log: Log }): Promise<Store> {
  try {
    // Only the owner: the store holds the token's hash and every bundle.
    await mkdir(dirname(options.file), { recursive: true, mode: 0o700 });
    return new SqliteStore(openDatabase(options.file), options);
  } catch (cause) {
    throw storeDown(`could not open the store "${options.file}"`, cause);
  }
}

function openDatabase(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    database.exec(SCHEMA);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

class SqliteStore implements Store {
  readonly kind = 'sqlite';
  readonly #file: string;
  readonly #log: Log;
  readonly #database: DatabaseSync;
  readonly #statements;
  readonly #purgeTimer: NodeJS.Timeout;
  #isUp = true;

  constructor(database: DatabaseSync, { file, log }: { file: string; log: Log }) {
    this.#file = file;
    this.#log = log;
    this.#database = database;
    this.#statements = prepare(database);
    this.#purgeTimer = setInterval(() => this.#purge(), PURGE_EVERY_MS).unref();
  }

  get isUp(): boolean {
    return this.#isUp && this.#database.isOpen;
  }

  get(key: string): Promise<Buffer | undefined> {
    return this.#attempt('get', key, () => {
      const row = this.#statements.get.get(key, Date.now());
      return row === undefined ? undefined : toBuffer(row['value']);
    });
  }

  set(key: string, value: Uint8Array | string, options: SetOptions = {}): Promise<boolean> {
    return this.#attempt('set', key, () => {
      const now = Date.now();
      const expiresAt = options.ttlMs === undefined ? null : now + checkTtl(options.ttlMs);
      const bytes = typeof value === 'string' ? Buffer.from(value) : value;
      if (options.ifAbsent === true) return this.#statements.setIfAbsent.run(key, bytes, expiresAt, now).changes === 1;
      return this.#statements.set.run(key, bytes, expiresAt).changes === 1;
    });
  }

  delete(...keys: readonly string[]): Promise<number> {
    return this.#attempt('delete', keys[0] ?? '', () =>
      this.#transaction(() => {
        const now = Date.now();
        let deleted = 0;
        for (const key of keys) deleted += Number(this.#statements.delete.get(now, key)?.['was_live'] ?? 0);
        return deleted;
      }),
    );
  }

  compareAndSet(key: string, expected: string | undefined, next: string): Promise<boolean> {
    return this.#attempt('compare and set', key, () => {
      const now = Date.now();
      const value = Buffer.from(next);
      if (expected === undefined) return this.#statements.setIfAbsent.run(key, value, null, now).changes === 1;
      return this.#statements.replace.run(value, key, Buffer.from(expected), now).changes === 1;
    });
  }

  increment(key: string, by: number, ttlMs?: number): Promise<number> {
    return this.#attempt('increment', key, () =>
      this.#transaction(() => {
        const now = Date.now();
        const row = this.#statements.get.get(key, now);
        const held = row === undefined ? '0' : toBuffer(row['value']).toString();
        checkIncrement(by);
        const sum = Number(held) + by;
        if (!/^(0|-?[1-9]\d*)$/.test(held) || !Number.isSafeInteger(sum)) throw notAnInteger(key);
        if (row !== undefined) this.#statements.update.run(Buffer.from(String(sum)), key);
        else
          this.#statements.set.run(key, Buffer.from(String(sum)), ttlMs === undefined ? null : now + checkTtl(ttlMs));
        return sum;
      }),
    );
  }

  keys(prefix: string): Promise<readonly string[]> {
    return this.#attempt('list keys under', prefix, () => {
      const found: string[] = [];
      for (const row of this.#statements.keys.iterate(prefix, Date.now())) {
        const key = String(row['key']);
        if (!key.startsWith(prefix)) break;
        found.push(key);
      }
      return found.sort();
    });
  }

  acquireLease(key: string, owner: string, ttlMs: number): Promise<boolean> {
    return this.#attempt('acquire the lease', key, () => {
      const now = Date.now();
      return this.#statements.lease.run(key, Buffer.from(owner), now + checkTtl(ttlMs), now).changes === 1;
    });
  }

  async releaseLease(key: string, owner: string): Promise<void> {
    await this.#attempt('release the lease', key, () => this.#statements.release.run(key, Buffer.from(owner)));
  }

  async leaseOwner(key: string): Promise<string | undefined> {
    return (await this.get(key))?.toString();
  }

  async close(): Promise<void> {
    clearInterval(this.#purgeTimer);
    if (this.#database.isOpen) this.#database.close();
  }

  /** Every statement runs here: `isUp` follows the outcome, and SQLite's errors become STORE_DOWN. */
  #attempt<T>(what: string, key: string, work: () => T): Promise<T> {
    try {
      if (!this.#database.isOpen) throw new Error('the store is closed');
      const result = work();
      this.#isUp = true;
      return Promise.resolve(result);
    } catch (cause) {
      if (cause instanceof FuncatronError) return Promise.reject(cause);
      if (this.#isUp) this.#log.error({ err: cause, file: this.#file }, 'the store fails');
      this.#isUp = false;
      return Promise.reject(storeDown(`could not ${what} "${key}"`, cause));
    }
  }

  #transaction<T>(work: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      // SQLite has already rolled back by itself after some errors, a full disk among them.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  #purge(): void {
    try {
      this.#statements.purge.run(Date.now());
    } catch (error) {
      // Reads ignore expired entries anyway; the next purge may have better luck.
      this.#log.debug({ err: error, file: this.#file }, 'could not purge expired entries');
    }
  }
}

function prepare(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text);
  return {
    get: sql('SELECT value FROM entry WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)'),
    set: sql(`INSERT INTO entry VALUES (?, ?, ?)
      ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at`),
    setIfAbsent: sql(`INSERT INTO entry VALUES (?, ?, ?)
      ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
      WHERE entry.expires_at <= ?`),
    update: sql('UPDATE entry SET value = ? WHERE key = ?'),
    replace: sql(`UPDATE entry SET value = ?, expires_at = NULL
      WHERE key = ? AND value = ? AND (expires_at IS NULL OR expires_at > ?)`),
    delete: sql('DELETE FROM entry WHERE key = ?2 RETURNING expires_at IS NULL OR expires_at > ?1 AS was_live'),
    keys: sql('SELECT key FROM entry WHERE key >= ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY key'),
    lease: sql(`INSERT INTO entry VALUES (?, ?, ?)
      ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
      WHERE entry.value = excluded.value OR entry.expires_at <= ?`),
    release: sql('DELETE FROM entry WHERE key = ? AND value = ?'),
    purge: sql('DELETE FROM entry WHERE expires_at <= ?'),
  };
}

function toBuffer(value: unknown): Buffer {
  if (!(value instanceof Uint8Array)) throw new FuncatronError('INTERNAL', `expected bytes, found ${typeof value}`);
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

function storeDown(message: string, cause: unknown): FuncatronError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FuncatronError('STORE_DOWN', `${message}: ${reason}`, {
    cause,
    data: { hint: 'check that the data folder exists, is writable and has free space' },
  });
}
