import { DatabaseSync } from 'node:sqlite';
import type { BindingSpec, ExchangeSpec, QueueSpec } from '../wire/topology.ts';
import type { MessageProperties } from './broker.ts';
import type { Message } from './memory-entry.ts';

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
  CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
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
 * The state `working` is 1 while a process has the journal: found so at the start, the last one was killed, and then
 * every message in it may have been delivered, as after a crash of RabbitMQ. The mark `suspect` says so for all of
 * them at once: writing it into each would rewrite its body.
 */
export function openDatabase(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: LOCK_TIMEOUT_MS });
  try {
    // Exclusive before WAL: the lock is then held for good, and needs no shared memory.
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    database.exec(SCHEMA);
    if (readState(database, 'working') === 1) {
      writeState(database, 'suspect', Math.max(readState(database, 'suspect'), lastIdIn(database)));
    }
    writeState(database, 'working', 1);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Whether an error of `openDatabase` says that another process, or another handle of this one, has the file. */
export function isLocked(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
}

/** 0 when it was never written. */
export function readState(database: DatabaseSync, name: 'working' | 'suspect'): number {
  return Number(database.prepare('SELECT value FROM state WHERE name = ?').get(name)?.['value'] ?? 0);
}

/** Durable at once. */
export function writeState(database: DatabaseSync, name: 'working' | 'suspect', value: number): void {
  database.prepare('INSERT OR REPLACE INTO state VALUES (?, ?)').run(name, value);
}

/** The id of the newest message, 0 when there is none. */
export function lastIdIn(database: DatabaseSync): number {
  return Number(database.prepare('SELECT max(id) AS id FROM message').get()?.['id'] ?? 0);
}

/** What is durable in an open journal. Messages up to `suspectId` count as delivered before. */
export function readContent(database: DatabaseSync, suspectId: number): JournalContent {
  const all = (sql: string): Record<string, unknown>[] => database.prepare(sql).all();
  return {
    exchanges: all('SELECT spec FROM exchange').map((row) => JSON.parse(String(row['spec'])) as ExchangeSpec),
    queues: all('SELECT spec FROM queue').map((row) => JSON.parse(String(row['spec'])) as QueueSpec),
    bindings: all('SELECT * FROM binding').map((row) => ({
      exchange: String(row['exchange']),
      queue: String(row['queue']),
      key: String(row['key']),
    })),
    messages: readMessages(database, suspectId),
  };
}

function* readMessages(database: DatabaseSync, suspectId: number): Generator<JournalRow> {
  for (const row of database.prepare('SELECT * FROM message ORDER BY id').iterate()) {
    const id = Number(row['id']);
    const body = row['body'];
    if (!(body instanceof Uint8Array)) continue; // the column is BLOB NOT NULL in a STRICT table
    yield {
      id,
      queue: String(row['queue']),
      message: {
        exchange: String(row['exchange']),
        routingKey: String(row['routing_key']),
        properties: JSON.parse(String(row['properties'])) as MessageProperties,
        body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
      },
      expiresAt: row['expires_at'] === null ? Infinity : Number(row['expires_at']),
      redelivered: row['redelivered'] === 1 || id <= suspectId,
    };
  }
}
