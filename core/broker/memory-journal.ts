import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { FuncatronError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { BindingSpec, ExchangeSpec, QueueSpec } from '../wire/topology.ts';
import {
  isLocked,
  lastIdIn,
  openDatabase,
  readContent,
  readState,
  writeState,
  type JournalContent,
  type JournalRow,
} from './memory-journal-file.ts';

const DELETE_QUEUE = [
  'DELETE FROM binding WHERE queue = ?',
  'DELETE FROM message WHERE queue = ?',
  'DELETE FROM queue WHERE name = ?',
];

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
    if (isLocked(cause)) {
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
 * That fsync stops the event loop for as long as the disk takes (165-290 µs measured): the price of `accepted` meaning
 * durable without a second process. Sync calls are transient and never wait for it unless an event shares their turn.
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
  /** Messages up to this one were there when a process was killed. */
  readonly #suspectId: number;
  #lastId: number;
  #isFailing = false;

  constructor(database: DatabaseSync, { file, log }: { file: string; log: Log }) {
    this.#file = file;
    this.#log = log;
    this.#database = database;
    this.#insert = this.#database.prepare('INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
    this.#delete = this.#database.prepare('DELETE FROM message WHERE id = ?');
    this.#mark = this.#database.prepare('UPDATE message SET redelivered = 1 WHERE id = ?');
    this.#suspectId = readState(database, 'suspect');
    // Never an id again that may be below the mark.
    this.#lastId = Math.max(this.#suspectId, lastIdIn(database));
  }

  /** Deletions and marks that wait for a `commit`. */
  get waiting(): number {
    return this.#deletes.length + this.#marks.length;
  }

  load(): JournalContent {
    return readContent(this.#database, this.#suspectId);
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

  unbind({ exchange, queue, key }: BindingSpec): void {
    const sql = 'DELETE FROM binding WHERE exchange = ? AND queue = ? AND key = ?';
    this.#run('unbind a queue', sql, exchange, queue, key);
  }

  deleteQueue(name: string): void {
    try {
      this.#transaction(() => {
        for (const sql of DELETE_QUEUE) this.#database.prepare(sql).run(name);
      });
    } catch (cause) {
      throw journalDown(`could not delete queue "${name}" in the journal "${this.#file}"`, cause);
    }
  }

  /** Writes what is left and marks the end as clean, so that nothing comes back as redelivered without reason. */
  close(): void {
    this.commit();
    try {
      writeState(this.#database, 'working', 0);
    } catch (error) {
      // Then the next start takes this end for a crash: everything comes back as redelivered, nothing is lost.
      this.#log.warn({ err: error, file: this.#file }, 'the journal could not be marked as closed');
    }
    this.#database.close();
  }

  #write(inserts: readonly JournalRow[]): boolean {
    try {
      this.#transaction(() => {
        for (const row of inserts) {
          const { exchange, routingKey, properties, body } = row.message;
          const expiresAt = row.expiresAt === Infinity ? null : row.expiresAt;
          const text = JSON.stringify(properties);
          this.#insert.run(row.id, row.queue, exchange, routingKey, text, body, expiresAt, row.redelivered ? 1 : 0);
        }
        for (const id of this.#marks) this.#mark.run(id);
        for (const id of this.#deletes) this.#delete.run(id);
      });
    } catch (error) {
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

  #transaction(work: () => void): void {
    this.#database.exec('BEGIN');
    try {
      work();
      this.#database.exec('COMMIT');
    } catch (error) {
      // SQLite has already rolled back by itself after some errors, a full disk among them.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  #run(what: string, sql: string, ...values: string[]): void {
    try {
      this.#database.prepare(sql).run(...values);
    } catch (cause) {
      throw journalDown(`could not ${what} in the journal "${this.#file}"`, cause);
    }
  }
}

function journalDown(message: string, cause: unknown): FuncatronError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FuncatronError('BROKER_DOWN', `${message}: ${reason}`, {
    cause,
    data: { hint: 'check that the data folder exists, is writable and has free space' },
  });
}
