import { createHash, timingSafeEqual } from 'node:crypto';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';
import { StoreKey } from '../core/wire/control.ts';

/** Tells who holds the management token. */
export interface OperatorCheck {
  /** Never rejects: while the store cannot say what the token is, nobody holds it. */
  isOperator(authorization: string | undefined): Promise<boolean>;
}

export interface OperatorCheckOptions {
  readonly store: Store;
  /** The token, when the operator gave one; else the store holds its hash. */
  readonly given: string;
  readonly log: Log;
}

/** How long the store is not asked again after it failed: anybody may send a token. */
const RETRY_MS = 5_000;

/** A check that asks the store until it has answered once; the token itself is never here unless it was given. */
export function createOperatorCheck({ store, given, log }: OperatorCheckOptions): OperatorCheck {
  let hash: Promise<Buffer | undefined> | undefined;
  let expiresAt = Infinity;

  async function askStore(): Promise<Buffer | undefined> {
    try {
      const stored = await store.get(StoreKey.tokenHash);
      if (stored !== undefined) return Buffer.from(stored.toString(), 'hex');
    } catch (error) {
      log.warn({ err: error }, 'cannot ask for the management token; X-Funcatron-Log is not obeyed meanwhile');
    }
    expiresAt = performance.now() + RETRY_MS;
    return undefined;
  }

  function findHash(): Promise<Buffer | undefined> {
    if (hash === undefined || performance.now() >= expiresAt) {
      expiresAt = Infinity;
      hash = given === '' ? askStore() : Promise.resolve(sha256(given));
    }
    return hash;
  }

  return {
    async isOperator(authorization) {
      const token = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? '')?.[1];
      if (token === undefined) return false;
      const known = await findHash();
      // Hashes are of one length, and their comparison takes one time.
      return known !== undefined && timingSafeEqual(sha256(token), known);
    },
  };
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
