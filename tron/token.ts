import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FuncatronError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';
import { StoreKey } from '../core/wire/control.ts';

export interface TokenOptions {
  readonly store: Store;
  /** The token is kept here, in `token`, with mode 0600. */
  readonly dataDir: string;
  /** The token, when the operator gave one: then nothing is made and nothing is stored. */
  readonly given: string;
  readonly log: Log;
}

/** Checks the management token. The cluster's store holds its hash, so that every Tron takes the same one. */
export interface TokenCheck {
  /**
   * Settles when the request may pass.
   * @throws UNAUTHENTICATED, or STORE_DOWN as long as nobody could say what the token is
   */
  check(authorization: string | undefined): Promise<void>;
  /** Finds or makes the token; tried again by the next `check` when the store is down. @throws STORE_DOWN */
  prepare(): Promise<void>;
}

/** A check that knows its token after the first `prepare` that went well. */
export function createTokenCheck(options: TokenOptions): TokenCheck {
  let hash: Promise<Buffer> | undefined;

  function prepare(): Promise<Buffer> {
    hash ??= findHash(options).catch((error: unknown) => {
      hash = undefined;
      throw error;
    });
    return hash;
  }

  return {
    async prepare() {
      await prepare();
    },
    async check(authorization) {
      const given = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? '')?.[1];
      if (given === undefined) throw unauthenticated('no management token was sent');
      // Hashes are of one length, and their comparison takes one time.
      if (!timingSafeEqual(sha256(given), await prepare())) throw unauthenticated('the management token is wrong');
    },
  };
}

function unauthenticated(message: string): FuncatronError {
  return new FuncatronError('UNAUTHENTICATED', message, {
    data: {
      hint: 'send `Authorization: Bearer <token>`; the token is in the file `token` of the data folder of the tron that was started first, or what its --token says',
    },
  });
}

async function findHash({ store, dataDir, given, log }: TokenOptions): Promise<Buffer> {
  if (given !== '') return sha256(given);
  const file = join(dataDir, 'token');
  const kept = await readToken(file);
  const stored = await store.get(StoreKey.tokenHash);
  if (stored !== undefined) return takeStored(stored, kept, file, log);
  const token = kept ?? (await makeToken(dataDir, file));
  const hex = sha256(token).toString('hex');
  if (await store.set(StoreKey.tokenHash, hex, { ifAbsent: true })) {
    log.info({ file }, 'the management token is in this file');
    return Buffer.from(hex, 'hex');
  }
  // Another tron that started at the same time was faster: its token is the cluster's.
  if (kept === undefined) await rm(file, { force: true });
  return findHash({ store, dataDir, given, log });
}

/** A new token in the file; or the one that another tron of this folder has just put there. */
async function makeToken(dataDir: string, file: string): Promise<string> {
  const token = randomBytes(32).toString('base64url');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  try {
    await writeFile(file, `${token}\n`, { mode: 0o600, flag: 'wx' });
    return token;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return (await readToken(file)) ?? token;
  }
}

function takeStored(stored: Buffer, kept: string | undefined, file: string, log: Log): Buffer {
  const hash = Buffer.from(stored.toString(), 'hex');
  if (kept === undefined)
    log.info({ file }, 'the management token was made elsewhere; this data folder does not hold it');
  else if (!timingSafeEqual(hash, sha256(kept))) {
    log.warn({ file }, 'this file holds the token of another cluster; the store says which one is right');
  }
  return hash;
}

async function readToken(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim() || undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
