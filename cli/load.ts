import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { urlToHttpOptions } from 'node:url';
import { Latencies } from './latencies.ts';

/** How long answers are waited for after the last request has been sent. */
const GRACE_MS = 2_000;
/** A connection that broke is made anew after this time: who refuses them shall not be hammered. */
const REST_MS = 100;
/** Names of `Server-Timing` that are kept: they come from a stranger. */
const MAX_PARTS = 32;

export interface LoadOptions {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
  /** Requests under way at once, at most. */
  readonly connections: number;
  readonly seconds: number;
  /** Requests a second, whatever the answers do (open loop); absent: each connection sends the next one when it has its answer. */
  readonly rate: number | undefined;
  /** Ends the run early. */
  readonly signal: AbortSignal;
}

/**
 * A run of requests, and what became of them. In an open loop a call's time counts from the moment it was meant to leave,
 * so that calls which wait because others are slow count as slow (no coordinated omission).
 */
export class Load {
  /** Answers by status, and connections that broke by what broke them. */
  readonly statuses = new Map<number, number>();
  readonly errors = new Map<string, number>();
  readonly latencies = new Latencies();
  /** What `Server-Timing` said, by name, in the order of their first coming. */
  readonly parts = new Map<string, Latencies>();
  /** Of bodies. */
  bytes = 0;
  elapsedMs = 0;
  /** Requests without an answer at the end. */
  unfinished = 0;
  /** Requests of an open loop that were due, and for which no connection was free up to the end. */
  unsent = 0;
  readonly #options: LoadOptions;
  readonly #agent: HttpAgent;
  readonly #request: typeof requestHttp;
  readonly #target: ReturnType<typeof urlToHttpOptions>;
  readonly #done = Promise.withResolvers<undefined>();
  #startedAt = 0;
  #started = 0;
  #inFlight = 0;
  #resting = 0;
  #timer: NodeJS.Timeout | undefined;
  #hasStopped = false;
  #isOver = false;

  constructor(options: LoadOptions) {
    this.#options = options;
    const { url, connections } = options;
    const isHttps = url.protocol === 'https:';
    const settings = { keepAlive: true, maxSockets: connections };
    this.#agent = isHttps ? new HttpsAgent(settings) : new HttpAgent(settings);
    this.#request = isHttps ? requestHttps : requestHttp;
    this.#target = urlToHttpOptions(url);
  }

  /** Answers that came. */
  get answers(): number {
    return this.latencies.count;
  }

  /** Whether every call so far broke its connection: there is nobody to talk to. */
  get isUnreachable(): boolean {
    return this.answers === 0 && this.errors.size > 0;
  }

  /** Settles when the run is over; never rejects. */
  async run(): Promise<void> {
    const { seconds, signal } = this.#options;
    this.#startedAt = performance.now();
    const stop = (): void => this.#stop(GRACE_MS);
    const abort = (): void => this.#stop(0);
    const end = setTimeout(stop, seconds * 1000);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    else this.#fill();
    await this.#done.promise;
    clearTimeout(end);
    signal.removeEventListener('abort', abort);
  }

  /** Sends what is to be sent now. */
  #fill(): void {
    const { connections, rate } = this.#options;
    while (!this.#hasStopped && this.#inFlight + this.#resting < connections) {
      const now = performance.now();
      const dueAt = rate === undefined ? now : this.#startedAt + (this.#started * 1000) / rate;
      if (dueAt > now) return this.#fillIn(dueAt - now);
      this.#send(dueAt);
    }
  }

  #fillIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fill(), ms);
  }

  #send(dueAt: number): void {
    const { method, headers, body } = this.#options;
    this.#started++;
    this.#inFlight++;
    let isEnded = false;
    const end = (failure?: string): void => {
      if (isEnded) return;
      isEnded = true;
      this.#inFlight--;
      if (this.#isOver) return;
      if (failure !== undefined) this.#onFailure(failure);
      if (this.#hasStopped && this.#inFlight === 0) this.#finish();
      else this.#fill();
    };
    const onError = (error: NodeJS.ErrnoException): void => end(error.code ?? error.message);
    const req = this.#request({ ...this.#target, method, headers, agent: this.#agent });
    req.on('error', onError);
    req.on('response', (res) => {
      res.on('error', onError);
      res.on('data', (chunk: Buffer) => (this.bytes += chunk.length));
      res.on('end', () => {
        if (!this.#isOver) this.#onAnswer(res, dueAt);
        end();
      });
    });
    req.end(body);
  }

  #onAnswer(res: IncomingMessage, dueAt: number): void {
    const status = res.statusCode ?? 0;
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1);
    this.latencies.add(performance.now() - dueAt);
    for (const [name, ms] of readServerTiming(res.headers['server-timing'])) {
      let part = this.parts.get(name);
      if (part === undefined) {
        if (this.parts.size >= MAX_PARTS) continue;
        this.parts.set(name, (part = new Latencies()));
      }
      part.add(ms);
    }
  }

  #onFailure(failure: string): void {
    const count = (this.errors.get(failure) ?? 0) + 1;
    this.errors.set(failure, count);
    if (this.#hasStopped) return;
    if (this.isUnreachable && count >= this.#options.connections) return this.#stop(0);
    this.#resting++;
    setTimeout(() => {
      this.#resting--;
      this.#fill();
    }, REST_MS).unref();
  }

  /** Sends no more; what is under way has `graceMs`. */
  #stop(graceMs: number): void {
    clearTimeout(this.#timer);
    if (!this.#hasStopped) {
      this.#hasStopped = true;
      this.elapsedMs = performance.now() - this.#startedAt;
      const { rate } = this.#options;
      if (rate !== undefined) this.unsent = Math.max(0, Math.floor((this.elapsedMs * rate) / 1000) - this.#started);
    }
    if (this.#inFlight === 0 || graceMs === 0) this.#finish();
    else this.#timer = setTimeout(() => this.#finish(), graceMs);
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.unfinished = this.#inFlight;
    this.#agent.destroy();
    this.#done.resolve(undefined);
  }
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const DURATION = /;\s*dur\s*=\s*"?([0-9.]+)/i;

/** Names and durations of a `Server-Timing` header (W3C); those without a duration are left out. */
export function readServerTiming(
  header: string | readonly string[] | undefined,
): readonly (readonly [string, number])[] {
  if (header === undefined) return [];
  const text = typeof header === 'string' ? header : header.join(',');
  const parts: [string, number][] = [];
  for (const metric of text.split(',')) {
    const name = metric.split(';', 1)[0]?.trim() ?? '';
    const ms = Number(DURATION.exec(metric)?.[1] ?? NaN);
    if (TOKEN.test(name) && Number.isFinite(ms)) parts.push([name, ms]);
  }
  return parts;
}
