import type { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { WORKER_OPERATIONS } from '../bridge.ts';
import { FrameKind } from '../channel.ts';
import type { SendFrame } from './bundle-host.ts';
import type { Realm } from './realm.ts';
import { readBytes, writeBytes } from './window.ts';

const DIGESTS: Readonly<Record<string, string>> = {
  'SHA-1': 'sha1',
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
};

/** An operation the runner works on; every realm counts its own from 1. */
interface Pending {
  readonly realm: Realm;
  readonly id: number;
}

/** What guests ask for: passed on to the runner, but for digests, which need nothing but this process. */
export class Operations {
  readonly #send: SendFrame;
  readonly #onSettled: (realm: Realm) => void;
  readonly #pending = new Map<number, Pending>();
  /** Frames of this turn: a cancel would overtake them, so what is given up in the turn it began in never leaves. */
  readonly #unsent = new Map<number, readonly Buffer[]>();
  /** Given up in this turn: the runner is told of all at once. */
  #givenUp: number[] = [];
  #lastId = 0;

  /** @param onSettled called when an operation ended: its guest has work */
  constructor(send: SendFrame, onSettled: (realm: Realm) => void) {
    this.#send = send;
    this.#onSettled = onSettled;
  }

  /** Takes over an operation that the guest has just handed out, as the JSON of `{name, args}`. */
  begin(realm: Realm, id: number, json: string): void {
    const bytes = readBytes(realm) ?? EMPTY;
    if (json.startsWith('{"name":"digest"')) return this.#digest(realm, id, json, bytes);
    if (this.#pending.size >= WORKER_OPERATIONS) {
      return this.#refuse(realm, id, 'SERVICE_BUSY', `${WORKER_OPERATIONS} operations of this worker are under way`);
    }
    const text = Buffer.from(json);
    const head = Buffer.allocUnsafe(8);
    this.#lastId = (this.#lastId + 1) >>> 0;
    this.#pending.set(this.#lastId, { realm, id });
    head.writeUInt32BE(this.#lastId, 0);
    head.writeUInt32BE(text.length, 4);
    this.#unsent.set(this.#lastId, [head, text, bytes]);
  }

  /** Sends what has begun in this turn, and what was given up. */
  flush(): void {
    if (this.#givenUp.length > 0) this.#sendGivenUp();
    if (this.#unsent.size === 0) return;
    for (const parts of this.#unsent.values()) this.#send(FrameKind.op, ...parts);
    this.#unsent.clear();
  }

  /** Tells the runner that the guest gave an operation up. */
  abandon(realm: Realm, id: number): void {
    for (const [number, pending] of this.#pending) {
      if (pending.realm === realm && pending.id === id) return this.#giveUp(number);
    }
  }

  /** Gives up all of a realm that is dropped. */
  abandonAll(realm: Realm): void {
    for (const [number, pending] of this.#pending) if (pending.realm === realm) this.#giveUp(number);
  }

  /** Passes a result frame of the runner's on to the guest that waits for it. */
  settle(frame: Buffer): void {
    const number = frame.readUInt32BE(0);
    const pending = this.#pending.get(number);
    if (pending === undefined) return;
    this.#pending.delete(number);
    const jsonEnd = 9 + frame.readUInt32BE(5);
    const json = frame.toString('utf8', 9, jsonEnd);
    this.#end(pending.realm, pending.id, frame[4] ?? 0, json, frame.subarray(jsonEnd));
  }

  #giveUp(number: number): void {
    this.#pending.delete(number);
    if (!this.#unsent.delete(number)) this.#givenUp.push(number);
  }

  #sendGivenUp(): void {
    const frame = Buffer.allocUnsafe(4 * this.#givenUp.length);
    this.#givenUp.forEach((number, index) => frame.writeUInt32BE(number, 4 * index));
    this.#givenUp = [];
    this.#send(FrameKind.cancel, frame);
  }

  #end(realm: Realm, id: number, done: number, json: string, bytes: Buffer): void {
    try {
      if (bytes.length > 0) writeBytes(realm, bytes);
      realm.guest.settle(id, done, json);
    } catch {
      // A guest's value, never looked at: what it means to the guest, the guest decides.
    }
    this.#onSettled(realm);
  }

  #refuse(realm: Realm, id: number, code: string, message: string): void {
    this.#end(realm, id, 0, JSON.stringify({ code, message }), EMPTY);
  }

  #digest(realm: Realm, id: number, json: string, bytes: Buffer): void {
    const { args } = JSON.parse(json) as { args: { algorithm?: unknown } };
    const algorithm = DIGESTS[String(args.algorithm)];
    if (algorithm === undefined) this.#refuse(realm, id, 'NOT_SUPPORTED', `no digest ${String(args.algorithm)}`);
    else this.#end(realm, id, 1, '{}', hasher()(algorithm).update(bytes).digest());
  }
}

const EMPTY = Buffer.alloc(0);
const require = createRequire(__filename);

/** Loaded at the first digest: most bundles need none, and it is a tenth of the start. */
function hasher(): typeof createHash {
  return (require('node:crypto') as typeof import('node:crypto')).createHash;
}
