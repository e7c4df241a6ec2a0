import { reply, type Reply } from './index.ts';

/** An event as browsers' `EventSource` gets it; every field may be left out. Source: https://html.spec.whatwg.org/#server-sent-events */
export interface SseEvent {
  /** A string as it is, of several lines too; anything else as JSON. */
  readonly data?: unknown;
  /** What listeners are registered for; default there: `message`. */
  readonly event?: string;
  /** Comes back as `event.headers['last-event-id']` when the client has connected again; '' takes the last one back. */
  readonly id?: string | number;
  /** How long the client waits before it connects again. */
  readonly retry?: number;
  /** For whoever reads the wire. */
  readonly comment?: string;
}

export interface SseOptions {
  /** A comment is sent when nothing was for so long, so that proxies keep the connection; 0: none. Default: 15 000. */
  readonly heartbeatMs?: number;
  /** `retry` of the first event: how long clients wait before they connect again. Default: the client's own, some seconds. */
  readonly retryMs?: number;
  /** Further headers of the answer. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
}

/** The events: a string is the data of one. */
export type SseSource = AsyncIterable<SseEvent | string> | Iterable<SseEvent | string>;

/**
 * An answer of server-sent events, one for each thing the source gives. It ends with the source; the client then connects
 * again, unless it is told not to by a 204. When the client hangs up `context.signal` aborts and the source's `finally` runs.
 *
 * @example
 * export const prices: Func = (event, context) => sse(watch(event.headers['last-event-id'], context.signal));
 * async function* watch(since, signal) { for (;;) yield { id: '7', event: 'price', data: { eur: 12 } }; }
 */
export function sse(source: SseSource, options: SseOptions = {}): Reply {
  const headers = {
    ...options.headers,
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    // nginx keeps what is short until it is worth a packet, unless it is told not to.
    'x-accel-buffering': 'no',
  };
  return reply(200, new SseBody(source, options), headers);
}

type Step = IteratorResult<string, unknown>;
type Source = AsyncIterator<SseEvent | string> | Iterator<SseEvent | string>;

const HEARTBEAT_MS = 15_000;
const HEARTBEAT = { done: false, value: ':\n\n' } as const;

/**
 * Events as text. Not a generator: `return` must reach the source while that waits, and heartbeats go out meanwhile.
 * Each `next` asks the source once, or finds it asked already, and gets what comes first: its answer or a heartbeat.
 */
class SseBody implements AsyncIterableIterator<string> {
  readonly #source: Source;
  readonly #heartbeatMs: number;
  readonly #opening: string;
  #isOpened = false;
  #isAsked = false;
  /** What the source answered, until somebody waits for it. */
  #answer: { readonly step: Step } | { readonly thrown: unknown } | undefined;
  #waiter: { resolve(step: Step): void; reject(thrown: unknown): void } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(source: SseSource, { heartbeatMs = HEARTBEAT_MS, retryMs }: SseOptions) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#heartbeatMs = heartbeatMs;
    this.#opening = retryMs === undefined ? HEARTBEAT.value : encodeEvent({ retry: retryMs });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The first piece comes at once: with it the connection is open for the client. */
  next(): Promise<Step> {
    if (!this.#isOpened) {
      this.#isOpened = true;
      return Promise.resolve({ done: false, value: this.#opening });
    }
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
      if (this.#answer !== undefined) return this.#handOver();
      if (this.#heartbeatMs > 0) this.#timer = setTimeout(() => this.#beat(), this.#heartbeatMs);
      if (!this.#isAsked) void this.#ask();
    });
  }

  async return(value?: unknown): Promise<Step> {
    clearTimeout(this.#timer);
    await this.#source.return?.();
    return { done: true, value };
  }

  async #ask(): Promise<void> {
    this.#isAsked = true;
    try {
      const { done, value } = await this.#source.next();
      this.#answer = { step: done === true ? { done, value } : { done: false, value: encodeEvent(value) } };
    } catch (thrown) {
      this.#answer = { thrown };
    }
    this.#isAsked = false;
    this.#handOver();
  }

  #handOver(): void {
    const answer = this.#answer;
    const waiter = this.#waiter;
    if (answer === undefined || waiter === undefined) return;
    this.#answer = undefined;
    this.#waiter = undefined;
    clearTimeout(this.#timer);
    if ('step' in answer) waiter.resolve(answer.step);
    else waiter.reject(answer.thrown);
  }

  #beat(): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(HEARTBEAT);
  }
}

const LINE_END = /\r\n|\r|\n/;
const FIELDS: readonly (keyof SseEvent)[] = ['data', 'event', 'id', 'retry', 'comment'];

/** @throws TypeError for what is no event, or holds what the format cannot */
function encodeEvent(given: SseEvent | string): string {
  const fields: SseEvent = typeof given === 'string' ? { data: given } : given;
  if (typeof fields !== 'object' || fields === null || !FIELDS.some((name) => fields[name] !== undefined)) {
    throw new TypeError('an event is a string, or an object with data, event, id, retry or comment');
  }
  const { data, event, id, retry, comment } = fields;
  let text = '';
  if (comment !== undefined) text += linesOf('', comment);
  if (event !== undefined) text += `event: ${oneLine('event', event)}\n`;
  if (id !== undefined) text += `id: ${oneLine('id', String(id))}\n`;
  if (retry !== undefined) text += `retry: ${milliseconds(retry)}\n`;
  if (data !== undefined) text += linesOf('data', typeof data === 'string' ? data : toJson(data));
  return `${text}\n`;
}

function linesOf(field: string, text: string): string {
  let lines = '';
  for (const line of text.split(LINE_END)) lines += `${field}: ${line}\n`;
  return lines;
}

function oneLine(field: string, text: string): string {
  if (LINE_END.test(text) || text.includes('\0')) {
    throw new TypeError(`the ${field} of an event is one line, and not ${JSON.stringify(text.slice(0, 100))}`);
  }
  return text;
}

function milliseconds(retry: number): number {
  if (!Number.isSafeInteger(retry) || retry < 0) throw new TypeError(`retry is a number of ms, and not ${retry}`);
  return retry;
}

function toJson(data: unknown): string {
  const json: string | undefined = JSON.stringify(data);
  if (json === undefined) throw new TypeError(`the data of an event is text or JSON, and not ${typeof data}`);
  return json;
}
