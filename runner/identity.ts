import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { newId, parseId } from '../core/id.ts';
import type { Closable } from '../core/lifecycle.ts';

/** Who a runner is, and the folder only it uses. */
export interface Identity extends Closable {
  readonly id: string;
  readonly folder: string;
}

/**
 * The same id at every start from the same data folder: assignments name runners by their ids, so one that starts
 * while Tron is down finds itself in its cached snapshot. Several runners on one data folder take places `1`, `2` …
 */
export async function openIdentity(folder: string): Promise<Identity> {
  for (let place = 1; ; place++) {
    const own = join(folder, String(place));
    await mkdir(own, { recursive: true, mode: 0o700 });
    const lock = lockFile(join(own, 'lock'));
    if (lock === undefined) continue;
    return {
      id: await readOrMakeId(join(own, 'id')),
      folder: own,
      close() {
        if (lock.isOpen) lock.close();
        return Promise.resolve();
      },
    };
  }
}

/**
 * A lock on a file that the system gives up when its holder dies, however it dies; `undefined` when it is taken.
 * Node has no flock; SQLite's exclusive transaction is one.
 */
function lockFile(file: string): DatabaseSync | undefined {
  const database = new DatabaseSync(file, { timeout: 0 });
  try {
    database.exec('BEGIN EXCLUSIVE');
    return database;
  } catch (error) {
    database.close();
    if (!(error instanceof Error) || !error.message.includes('locked')) throw error;
    return undefined;
  }
}

async function readOrMakeId(file: string): Promise<string> {
  const kept = await readFile(file, 'utf8').catch(() => ''); // Not there yet.
  if (parseId(kept.trim()) !== undefined) return kept.trim();
  const id = newId();
  await writeFile(file, `${id}\n`, { mode: 0o600 });
  return id;
}
