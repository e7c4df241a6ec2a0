import type { Part } from '../../../sdk/index.ts';
import { CallFlag, type CallMeta } from '../../../core/wire/envelope.ts';
import { bodyBytes, bodyText, parseBody, type RawBody } from './body.ts';
import { partsOf } from './multipart.ts';

/** `event`, as the sdk describes it. Getters on the prototype: a func pays for what it reads, and nothing is parsed twice. */
const EMPTY = Object.freeze({}) as Readonly<Record<string, never>>;
const NO_META: CallMeta = Object.freeze({});
const { parse } = JSON;

/** Eight hex digits of an int32. */
function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}

/** A call id of four int32 as text. */
export function idText(id0: number, id1: number, id2: number, id3: number): string {
  const middle = hex(id1);
  const later = hex(id2);
  return `${hex(id0)}-${middle.slice(0, 4)}-${middle.slice(4)}-${later.slice(0, 4)}-${later.slice(4)}${hex(id3)}`;
}

export class CallEvent {
  readonly #call: CallSource;
  #meta: CallMeta | undefined;
  #body: unknown;
  #isParsed = false;

  constructor(call: CallSource) {
    this.#call = call;
  }

  get #read(): CallMeta {
    const { meta } = this.#call;
    this.#meta ??= meta === '' ? NO_META : (parse(meta) as CallMeta);
    return this.#meta;
  }

  get id(): string {
    return this.#call.id;
  }
  get kind(): string {
    return (this.#call.flags & CallFlag.event) === 0 ? 'call' : 'event';
  }
  get trigger(): string {
    return this.#read.kind ?? 'http';
  }
  get time(): string {
    return new Date(this.#read.time ?? 0).toISOString();
  }
  get attempt(): number {
    return this.#call.attempt;
  }
  get method(): string {
    return this.#read.method ?? '';
  }
  get path(): string {
    return this.#read.path ?? '';
  }
  get params(): Readonly<Record<string, unknown>> {
    return this.#read.params ?? EMPTY;
  }
  get query(): Readonly<Record<string, unknown>> {
    return this.#read.query ?? EMPTY;
  }
  get cookies(): Readonly<Record<string, unknown>> {
    return this.#read.cookies ?? EMPTY;
  }
  get headers(): Readonly<Record<string, unknown>> {
    return this.#read.headers ?? EMPTY;
  }
  get contentType(): string {
    return textOf(this.headers['content-type']) ?? '';
  }
  get idempotencyKey(): string | undefined {
    return textOf(this.headers['idempotency-key']);
  }
  get body(): unknown {
    if (!this.#isParsed) {
      this.#body = this.#call.incoming === undefined ? parseBody(this.#call, this.contentType) : undefined;
      this.#isParsed = true;
    }
    return this.#body;
  }
  bytes(): Uint8Array {
    return bodyBytes(this.#whole);
  }
  text(): string {
    return bodyText(this.#whole);
  }
  json(): unknown {
    return parse(bodyText(this.#whole));
  }
  get #whole(): RawBody {
    if (this.#call.incoming === undefined) return this.#call;
    throw new TypeError('the body of a direct operation comes in pieces: read event.stream()');
  }
  /** The body in pieces, once; one that did not come as a stream is one piece. */
  stream(): AsyncIterableIterator<Uint8Array> {
    return this.#call.incoming ?? onePiece(bodyBytes(this.#call));
  }
  /** The parts of a multipart body as they come, one after the other. */
  parts(): AsyncIterableIterator<Part> {
    return partsOf(this.stream(), this.contentType);
  }
  /** What a log or a reply shows of an event. */
  toJSON(): Record<string, unknown> {
    const { id, kind, trigger, time, attempt, method, path, params, query, cookies, headers, body } = this;
    return { id, kind, trigger, time, attempt, method, path, params, query, cookies, headers, body };
  }
}

async function* onePiece(bytes: Uint8Array): AsyncIterableIterator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

function textOf(header: unknown): string | undefined {
  return typeof header === 'string' ? header : undefined;
}

/** What an event reads from. */
export interface CallSource extends RawBody {
  /** Its body, where that comes in pieces. */
  readonly incoming: AsyncIterableIterator<Uint8Array> | undefined;
  readonly id: string;
  readonly flags: number;
  readonly attempt: number;
  readonly meta: string;
}
