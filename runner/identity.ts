import { createHash } from 'node:crypto';
import { mkdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { FuncatronError } from '../core/errors.ts';
import { newId, parseId } from '../core/id.ts';
import type { Closable } from '../core/lifecycle.ts';

/** Runners that may share one data folder. */
const MAX_PLACES = 64;
const MAX_SOCKET_PATH = 100;

/** Who a runner is, and the folder only it uses. */
export interface Identity extends Closable {
  readonly id: string;
  readonly folder: string;
}

/**
 * The same id at every start from the same data folder: assignments name runners by their ids, so one that starts
 * while Tron is down finds itself in its cached snapshot. Several runners on one data folder take places `1`, `2` …;
 * a place is held by a socket in it, which the system gives up when the process dies, however it dies.
 * @throws INVALID_CONFIG when the folder cannot hold such a socket
 */
export async function openIdentity(folder: string): Promise<Identity> {
  for (let place = 1; place <= MAX_PLACES; place++) {
    const own = join(folder, String(place));
    await mkdir(own, { recursive: true, mode: 0o700 });
    const lock = await take(lockPath(own));
    if (lock === undefined) continue;
    return { id: await readOrMakeId(join(own, 'id')), folder: own, close: () => release(lock) };
  }
  throw badFolder(`${MAX_PLACES} runners already use ${folder}`);
}

/** A socket's path has about a hundred bytes (sockaddr_un); for a longer one its hash stands in the system's temporary folder. */
function lockPath(folder: string): string {
  const path = resolve(folder, 'lock');
  if (Buffer.byteLength(path) < MAX_SOCKET_PATH) return path;
  return join(tmpdir(), `funcatron-${createHash('sha256').update(path).digest('hex').slice(0, 16)}.lock`);
}

async function readOrMakeId(file: string): Promise<string> {
  const kept = await readFile(file, 'utf8').catch(() => ''); // Not there yet.
  if (parseId(kept.trim()) !== undefined) return kept.trim();
  const id = newId();
  await writeFile(file, `${id}\n`, { mode: 0o600 });
  return id;
}

/** The lock, or `undefined` when a living process has it. */
async function take(path: string): Promise<Server | undefined> {
  for (let attempt = 0; attempt < 2; attempt++) {
    const server = createServer((socket) => socket.destroy());
    const code = await new Promise<string | undefined>((resolve) => {
      server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      server.listen(path, () => resolve(undefined));
    });
    if (code === undefined) {
      server.unref();
      return server;
    }
    if (code !== 'EADDRINUSE') throw badFolder(`cannot hold ${path} (${code})`);
    if (await answers(path)) return undefined;
    // Left behind by a process that was killed.
    await unlink(path).catch(() => undefined);
  }
  return undefined;
}

function badFolder(message: string): FuncatronError {
  const hint = 'give the runner a data folder of its own with --data, on a disk of this machine';
  return new FuncatronError('INVALID_CONFIG', message, { data: { hint } });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function release(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
