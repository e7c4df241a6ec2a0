import { formatId, ID_BYTES } from '../id.ts';
import { Envelope, KIND_REPLIES, ReplyFlag } from './envelope.ts';

/**
 * The direct path: the queue picks the runner, the bytes go by HTTP between it and the frontend.
 *
 * - `accepted`: `POST <url>` with the body of the request, which is held back until the runner says `100 Continue`: a
 *   frontend that hears anything else, or nothing, knows that its call has not been started there.
 * - `direct`: `GET <url>`.
 *
 * Both with `authorization: Bearer <token>`. The answer to both is `200`, and its content: u32 length of an envelope, the
 * envelope with the one reply, and, where that has `ReplyFlag.direct`, the bytes of its body to the end. An offer is good
 * for one request and one call, for `CLAIM_MS` and not beyond its deadline. A transfer that cannot be finished ends with
 * its connection: a body that ends in order is whole.
 */

/** Where a runner offers the bytes of one call: the JSON body of an `accepted` or `direct` reply. */
export interface DirectOffer {
  /** `http://10.0.0.7:4000/direct/<call id>`. */
  readonly url: string;
  /** 256 random bits, base64url. */
  readonly token: string;
}

/** Content type of the answer. */
export const DIRECT_CONTENT_TYPE = 'application/x-funcatron';
/** Longest envelope that precedes a body: its meta holds at most 32 KiB of headers, and the lines of the call's log. */
export const MAX_DIRECT_HEAD_BYTES = 2 * 1024 * 1024;
/** How long a frontend may take to come for what it was offered: then a slot, or what made a body, is let go. */
export const CLAIM_MS = 5_000;

/** Where a runner's listener answers everybody that it is one, for `funcatron doctor`: 404, with this header. */
export const DIRECT_PATH = '/direct/';
export const DIRECT_HEADER = 'x-funcatron-direct';

const TOKEN = /^[A-Za-z0-9_-]{43}$/;

/** The path of a call's offer. */
export function directPath(callId: Buffer): string {
  return DIRECT_PATH + formatId(callId, 0);
}

/**
 * Reads the body of an `accepted` or `direct` reply. Whoever may write to a reply queue can name any host here, but only
 * the path of this call, and nothing but plain HTTP.
 * @throws TypeError or SyntaxError when it is no offer for this call
 */
export function readOffer(body: Buffer, callId: Buffer): DirectOffer {
  const { url, token } = JSON.parse(body.toString()) as Partial<DirectOffer>;
  if (typeof url !== 'string' || typeof token !== 'string' || !TOKEN.test(token)) throw new TypeError('no offer');
  const { protocol, username, password, pathname, search, hash } = new URL(url);
  const isPlain = protocol === 'http:' && username + password + search + hash === '';
  if (!isPlain || !pathname.endsWith(directPath(callId))) throw new TypeError('an offer that leads elsewhere');
  return { url, token };
}

/** The head of the answer to an accepted call: the length of the envelope, and the envelope. */
export function encodeDirectHead(reply: Envelope): Buffer {
  const head = Buffer.allocUnsafe(4 + reply.buffer.length);
  head.writeUInt32BE(reply.buffer.length);
  reply.buffer.copy(head, 4);
  return head;
}

/** Takes the head of an answer out of the pieces it comes in. */
export class DirectHeadReader {
  #pieces: Buffer[] = [];
  #have = 0;

  /**
   * Adds what has come. `undefined` while the head is not whole.
   * @throws RangeError when it is longer than any head, or no single reply; INVALID_REQUEST when it holds no envelope
   */
  push(piece: Buffer): { readonly reply: Envelope; readonly rest: Buffer } | undefined {
    this.#pieces.push(piece);
    this.#have += piece.length;
    if (this.#have < 4) return undefined;
    const whole = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces, this.#have);
    this.#pieces = [whole];
    const length = whole.readUInt32BE(0);
    if (length > MAX_DIRECT_HEAD_BYTES) throw new RangeError(`a head of ${length} bytes`);
    if (whole.length < 4 + length) return undefined;
    const reply = new Envelope(whole.subarray(4, 4 + length));
    const isAnswer =
      reply.kind === KIND_REPLIES && reply.count === 1 && (reply.replyFlags(0) & ReplyFlag.accepted) === 0;
    if (!isAnswer) throw new RangeError('a head that is not one answer');
    return { reply, rest: whole.subarray(4 + length) };
  }
}

/** Bytes of a call's id, which begin every frame and name every stream of the direct path. */
export const STREAM_ID_BYTES = ID_BYTES;

/**
 * What stands in the place of the body of a `direct` reply on its way from a worker: how long the body is, as f64, or
 * -1 when nobody knows.
 */
export function encodeLength(bytes: number | undefined): Buffer {
  const length = Buffer.allocUnsafe(8);
  length.writeDoubleBE(bytes ?? -1);
  return length;
}

/** See `encodeLength`; anything else is a length nobody knows. */
export function readLength(body: Buffer): number | undefined {
  const length = body.length === 8 ? body.readDoubleBE(0) : -1;
  return Number.isSafeInteger(length) && length >= 0 ? length : undefined;
}
