import type { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { type Channel, FrameKind } from '../channel.ts';
import type { Realm } from './realm.ts';
import { readBytes, writeBytes } from './window.ts';

const DIGESTS: Readonly<Record<string, string>> = {
  'SHA-1': 'sha1',
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
};

/** What the guest asks for: passed on to the runner, but for digests, which need nothing but this process. */
export class Operations {
  readonly #realm: Realm;
  readonly #channel: Channel;
  readonly #onSettled: () => void;

  /** @param onSettled called when an operation ended here: the guest has work */
  constructor(realm: Realm, channel: Channel, onSettled: () => void) {
    this.#realm = realm;
    this.#channel = channel;
    this.#onSettled = onSettled;
  }

  /** Takes over an operation that the guest has just handed out, as the JSON of `{name, args}`. */
  begin(id: number, json: string): void {
    const bytes = readBytes(this.#realm) ?? Buffer.alloc(0);
    const text = Buffer.from(json);
    if (json.startsWith('{"name":"digest"')) return this.#digest(id, json, bytes);
    const head = Buffer.allocUnsafe(8);
    head.writeUInt32BE(id, 0);
    head.writeUInt32BE(text.length, 4);
    this.#channel.send(FrameKind.op, head, text, bytes);
  }

  /** Tells the runner that the guest gave an operation up. */
  abandon(id: number): void {
    const frame = Buffer.allocUnsafe(4);
    frame.writeUInt32BE(id);
    this.#channel.send(FrameKind.cancel, frame);
  }

  /** Passes a result frame of the runner's on to the guest. */
  settle(frame: Buffer): void {
    const jsonEnd = 9 + frame.readUInt32BE(5);
    this.#end(frame.readUInt32BE(0), frame[4] ?? 0, frame.toString('utf8', 9, jsonEnd), frame.subarray(jsonEnd));
  }

  #end(id: number, done: number, json: string, bytes: Buffer): void {
    try {
      if (bytes.length > 0) writeBytes(this.#realm, bytes);
      this.#realm.guest.settle(id, done, json);
    } catch {
      // A guest's value, never looked at: what it means to the guest, the guest decides.
    }
  }

  #digest(id: number, json: string, bytes: Buffer): void {
    const { args } = JSON.parse(json) as { args: { algorithm?: unknown } };
    const algorithm = DIGESTS[String(args.algorithm)];
    if (algorithm === undefined) {
      this.#end(
        id,
        0,
        JSON.stringify({ code: 'NOT_SUPPORTED', message: `no digest ${String(args.algorithm)}` }),
        EMPTY,
      );
    } else {
      this.#end(id, 1, '{}', hasher()(algorithm).update(bytes).digest());
    }
    this.#onSettled();
  }
}

const EMPTY = Buffer.alloc(0);
const require = createRequire(__filename);

/** Loaded at the first digest: most bundles need none, and it is a tenth of the start. */
function hasher(): typeof createHash {
  return (require('node:crypto') as typeof import('node:crypto')).createHash;
}
