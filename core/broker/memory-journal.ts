import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { FuncatronError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { BindingSpec, ExchangeSpec, QueueSpec } from '../wire/topology.ts';
import type { MessageProperties } from './broker.ts';
import type { Message } from './memory-queue.ts';

/** How long to wait for the process that holds the file to let go, in ms: one that is just ending does. */
const LOCK_TIMEOUT_MS = 500;
/** SQLite's SQLITE_BUSY: https://sqlite.org/rescode.html#busy */
const SQLITE_BUSY = 5;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS exchange (name TEXT PRIMARY KEY, spec TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS queue (name TEXT PRIMARY KEY, spec TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS binding (exchange TEXT, queue TEXT, key TEXT, PRIMARY KEY (exchange, queue, key)) STRICT;
  CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, queue TEXT NOT NULL, exchange TEXT NOT NULL, routing_key TEXT NOT NULL,
    properties TEXT NOT NULL, body BLOB NOT NULL, expires_at REAL, redelivered INTEGER NOT NULL
  ) STRICT;
`;

/** A message in the journal. */
export interface JournalRow {
  readonly id: number;
  readonly queue: string;
  readonly message: Message;
  /** Unix ms; `Infinity`: never. */
  readonly expiresAt: number;
  readonly redelivered: boolean;
}

/** What was durable when the last process ended. */
export interface JournalContent {
  readonly exchanges: readonly ExchangeSpec[];
  readonly queues: readonly QueueSpec[];
  readonly bindings: readonly BindingSpec[];
  /** In the order they were accepted. One at a time: they may be more than fit in memory twice. */
  readonly messages: Iterable<JournalRow>;
}

/**
 * Opens the journal, making the file and its folder when they are missing.
 * @throws INVALID_CONFIG when another process uses it, BROKER_DOWN when it cannot be opened
 */
export async function openJournal(file: string, log: Log): Promise<Journal> {
  try {
    // Only the owner: the journal holds whatever was published.
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    return new Journal(openDatabase(file), { file, log });
  } catch (cause) {
    if (cause instanceof Error && 'errcode' in cause && cause.errcode === SQLITE_BUSY) {
      throw new FuncatronError('INVALID_CONFIG', `could not open the journal "${file}": another process uses it`, {
        cause,
        data: { hint: 'stop the other funcatron, or give this one a data folder of its own (--data)' },
      });
    }
    throw journalDown(`could not open the journal "${file}"`, cause);
  }
}

/**
 * The durable half of the embedded broker: topology and messages in one SQLite file, so that a killed process loses
 * nothing it accepted. Changes are collected and written in one transaction by `commit`: one fsync a turn of the event
 * loop, however many messages it accepts.
 *
 * One process at a time: the file is locked until `close`, or until the process dies.
 */
export class Journal {
  readonly #log: Log;
  readonly #file: string;
  readonly #database: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #delete: StatementSync;
  readonly #mark: StatementSync;
  #inserts: JournalRow[] = [];
  #deletes: number[] = [];
  #marks: number[] = [];
  #lastId: number;
  #isFailing = false;

  constructor(database: DatabaseSync, { file, log }: { file: string; log: Log }) {
    this.#file = file;
    this.#log = log;
    this.#database = database;
    this.#insert = this.#database.prepare('INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
    this.#delete = this.#database.prepare('DELETE FROM message WHERE id = ?');
    this.#mark = this.#database.prepare('UPDATE message SET redelivered = 1 WHERE id = ?');
    this.#lastId = Number(this.#database.prepare('SELECT max(id) AS id FROM message').get()?.['id'] ?? 0);
  }

  /** Deletions and marks that wait for a `commit`. */
  get waiting(): number {
    return this.#deletes.length + this.#marks.length;
  }

  load(): JournalContent {
    const all = (sql: string): Record<string, unknown>[] => this.#database.prepare(sql).all();
    return {
      exchanges: all('SELECT spec FROM exchange').map((row) => JSON.parse(String(row['spec'])) as ExchangeSpec),
      queues: all('SELECT spec FROM queue').map((row) => JSON.parse(String(row['spec'])) as QueueSpec),
      bindings: all('SELECT * FROM binding').map((row) => ({
        exchange: String(row['exchange']),
        queue: String(row['queue']),
        key: String(row['key']),
      })),
      messages: readMessages(this.#database),
    };
  }

  /** Writes a message at the next `commit`; returns its id. */
  insert(row: Omit<JournalRow, 'id'>): number {
    const id = ++this.#lastId;
    this.#inserts.push({ id, ...row });
    return id;
  }

  delete(id: number): void {
    if (id !== 0) this.#deletes.push(id);
  }

  /** Remembers that a consumer died with it. */
  markRedelivered(id: number): void {
    if (id !== 0) this.#marks.push(id);
  }

  /**
   * Writes what was collected. Returns whether the inserts are durable; when not (a full disk), none of them is.
   * Deletions that could not be written are kept for the next `commit`: at worst a message comes back after a crash.
   */
  commit(): boolean {
    const inserts = this.#inserts;
    this.#inserts = [];
    const isWritten = this.#write(inserts);
    // Without the inserts the deletions may still fit, and they are what makes room.
    if (!isWritten && inserts.length > 0 && this.waiting > 0) this.#write([]);
    return isWritten;
  }

  declareExchange(spec: ExchangeSpec): void {
    this.#run('declare an exchange', 'INSERT OR REPLACE INTO exchange VALUES (?, ?)', spec.name, JSON.stringify(spec));
  }

  declareQueue(spec: QueueSpec): void {
    this.#run('declare a queue', 'INSERT OR REPLACE INTO queue VALUES (?, ?)', spec.name, JSON.stringify(spec));
  }

  bind({ exchange, queue, key }: BindingSpec): void {
    this.#run('bind a queue', 'INSERT OR REPLACE INTO binding VALUES (?, ?, ?)', exchange, queue, key);
  }

  deleteQueue(name: string): void {
    this.#run('delete a queue', 'DELETE FROM binding WHERE queue = ?', name);
    this.#run('delete a queue', 'DELETE FROM message WHERE queue = ?', name);
    this.#run('delete a queue', 'DELETE FROM queue WHERE name = ?', name);
  }

  /** Writes what is left and marks the end as clean, so that nothing comes back as redelivered without reason. */
  close(): void {
    this.commit();
    try {
      this.#database.exec('PRAGMA user_version = 0');
    } catch (error) {
      // Then the next start takes this end for a crash: everything comes back as redelivered, nothing is lost.
      this.#log.warn({ err: error, file: this.#file }, 'the journal could not be marked as closed');
    }
    this.#database.close();
  }

  #write(inserts: readonly JournalRow[]): boolean {
    try {
      this.#database.exec('BEGIN');
      for (const row of inserts) {
        const { exchange, routingKey, properties, body } = row.message;
        const expiresAt = row.expiresAt === Infinity ? null : row.expiresAt;
        const text = JSON.stringify(properties);
        this.#insert.run(row.id, row.queue, exchange, routingKey, text, body, expiresAt, row.redelivered ? 1 : 0);
      }
      for (const id of this.#marks) this.#mark.run(id);
      for (const id of this.#deletes) this.#delete.run(id);
      this.#database.exec('COMMIT');
    } catch (error) {
      // SQLite has already rolled back by itself after some errors, a full disk among them.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      if (!this.#isFailing) this.#log.error({ err: error, file: this.#file }, 'the journal fails; refusing messages');
      this.#isFailing = true;
      return false;
    }
    if (this.#isFailing) this.#log.info({ file: this.#file }, 'the journal works again');
    this.#isFailing = false;
    this.#marks = [];
    this.#deletes = [];
    return true;
  }

  #run(what: string, sql: string, ...values: string[]): void {
    try {
      this.#database.prepare(sql).run(...values);
    } catch (cause) {
      throw journalDown(`could not ${what} in the journal "${this.#file}"`, cause);
    }
  }
}

/**
 * `user_version` is 1 while a process works: found so at start, the last one was killed, and then every message may
 * have been delivered before, as after a crash of RabbitMQ.
 */
function openDatabase(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: LOCK_TIMEOUT_MS });
  try {
    // Exclusive before WAL: the lock is then held for good, and needs no shared memory.
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    database.exec(SCHEMA);
    const wasKilled = database.prepare('PRAGMA user_version').get()?.['user_version'] === 1;
    if (wasKilled) database.exec('UPDATE message SET redelivered = 1');
    database.exec('PRAGMA user_version = 1');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function* readMessages(database: DatabaseSync): Generator<JournalRow> {
  for (const row of database.prepare('SELECT * FROM message ORDER BY id').iterate()) {
    const body = row['body'];
    if (!(body instanceof Uint8Array)) continue; // the column is BLOB NOT NULL in a STRICT table
    yield {
      id: Number(row['id']),
      queue: String(row['queue']),
      message: {
        exchange: String(row['exchange']),
        routingKey: String(row['routing_key']),
        properties: JSON.parse(String(row['properties'])) as MessageProperties,
        body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
      },
      expiresAt: row['expires_at'] === null ? Infinity : Number(row['expires_at']),
      redelivered: row['redelivered'] === 1,
    };
  }
}

function journalDown(message: string, cause: unknown): FuncatronError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FuncatronError('BROKER_DOWN', `${message}: ${reason}`, {
    cause,
    data: { hint: 'check that the data folder exists, is writable and has free space' },
  });
}
