import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { listen } from '../../core/admin.ts';
import { TimerWheel, type WheelEntry } from '../../core/deadline.ts';
import type { Closable } from '../../core/lifecycle.ts';
import { urlOf } from '../../core/url.ts';
import { DIRECT_HEADER, DIRECT_PATH, directPath, type DirectOffer } from '../../core/wire/direct.ts';

/** Longer than frontends keep an idle connection: whoever closes first must be the one that sends requests. */
const KEEP_ALIVE_MS = 30_000;
const HEADERS_MS = 5_000;
const CHECK_MS = 1_000;
/** A frontend whose machine is gone says nothing: its connections are asked after this long, and then every 75 s or so. */
const PROBE_MS = 60_000;
/** Connections that have not shown a token: with one more, the oldest of them goes. */
const MAX_STRANGERS = 1_024;
/** An answer that nobody reads takes up to 1 MiB: some hundred of them are nothing, some thousand are all there is. */
const MAX_WAITING_BYTES = 256 * 1024 * 1024;

export interface DirectListenerOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** What frontends are told; empty: host and port. */
  readonly url: string;
  /** Default: 1 024. */
  readonly maxStrangers?: number;
  /** How long a connection may take to send the head of a request; default: 5 s. */
  readonly headersMs?: number;
}

/** Who waits for the one request of an offer. */
export interface Expectant {
  readonly id: Buffer;
  /** `POST` for the body of a call, `GET` for the body of an answer. */
  readonly method: 'POST' | 'GET';
  onRequest(req: IncomingMessage, res: ServerResponse): void;
  /** Nobody came: in time, or before the same call was offered again. */
  onUnclaimed(why: 'late' | 'again'): void;
}

class Expectation implements WheelEntry {
  readonly expectant: Expectant;
  readonly token = randomBytes(32);
  tick = 0;
  readonly #onExpire: (expectation: Expectation) => void;

  constructor(expectant: Expectant, onExpire: (expectation: Expectation) => void) {
    this.expectant = expectant;
    this.#onExpire = onExpire;
  }

  expire(): void {
    this.#onExpire(this);
  }
}

/** Where frontends bring and fetch the bytes of calls: it serves nobody who has no token, and each token once. */
export class DirectListener implements Closable {
  readonly #server: Server;
  readonly #url: string;
  readonly #wheel = new TimerWheel(100);
  /** By path; bounded by the calls a runner may hold. */
  readonly #expected = new Map<string, Expectation>();
  /** Oldest first. Who has shown a token once is none: frontends keep their connections. */
  readonly #strangers = new Set<Socket>();
  readonly #maxStrangers: number;
  /** Of all exchanges at this runner. */
  readonly backlog = { maxBytes: MAX_WAITING_BYTES, bytes: 0 };

  private constructor(server: Server, url: string, maxStrangers: number) {
    this.#server = server;
    this.#url = url;
    this.#maxStrangers = maxStrangers;
    const onRequest = (req: IncomingMessage, res: ServerResponse): void => this.#onRequest(req, res);
    server.on('request', onRequest);
    // Without this listener Node says 100 Continue to everybody, which here means that a call has been started.
    server.on('checkContinue', onRequest);
    server.on('connection', (socket) => this.#onConnection(socket));
  }

  /** @throws INVALID_CONFIG when the port is taken */
  static async open(options: DirectListenerOptions): Promise<DirectListener> {
    const { host, port, url, maxStrangers = MAX_STRANGERS, headersMs = HEADERS_MS } = options;
    const server = createServer({
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: headersMs,
      connectionsCheckingInterval: Math.min(CHECK_MS, headersMs),
      // Bodies take as long as their calls may.
      requestTimeout: 0,
      maxHeaderSize: 8 * 1024,
      keepAlive: true,
      keepAliveInitialDelay: PROBE_MS,
    });
    await listen(server, port, host, '--direct-port');
    const own = url === '' ? urlOf(host, (server.address() as AddressInfo).port) : url.replace(/\/$/, '');
    return new DirectListener(server, own, maxStrangers);
  }

  get url(): string {
    return this.#url;
  }

  /** Offers that nobody has claimed yet. */
  get offers(): number {
    return this.#expected.size;
  }

  /** Offers the bytes of a call for `waitMs`. An offer of the same call that nobody has claimed is withdrawn. */
  offer(expectant: Expectant, waitMs: number): DirectOffer {
    const path = directPath(expectant.id);
    this.#withdraw(path)?.expectant.onUnclaimed('again');
    const expectation = new Expectation(expectant, () => {
      if (this.#withdraw(path, expectation) !== undefined) expectant.onUnclaimed('late');
    });
    this.#expected.set(path, expectation);
    this.#wheel.add(expectation, waitMs);
    return { url: this.#url + path, token: expectation.token.toString('base64url') };
  }

  /** Withdraws the offer; does nothing when it was claimed. */
  withdraw(expectant: Expectant): void {
    const path = directPath(expectant.id);
    if (this.#expected.get(path)?.expectant === expectant) this.#withdraw(path);
  }

  /** Ends what is under way. */
  close(): Promise<void> {
    this.#wheel.close();
    this.#expected.clear();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #withdraw(path: string, only?: Expectation): Expectation | undefined {
    const known = this.#expected.get(path);
    if (known === undefined || (only !== undefined && known !== only)) return undefined;
    this.#expected.delete(path);
    this.#wheel.remove(known);
    return known;
  }

  #onConnection(socket: Socket): void {
    const strangers = this.#strangers;
    if (strangers.size >= this.#maxStrangers) {
      for (const oldest of strangers) {
        strangers.delete(oldest);
        oldest.destroy();
        break;
      }
    }
    strangers.add(socket);
    socket.on('close', () => strangers.delete(socket));
  }

  #onRequest(req: IncomingMessage, res: ServerResponse): void {
    // An offered URL may lead through a proxy that keeps a prefix.
    const path = req.url?.slice(req.url.lastIndexOf(DIRECT_PATH)) ?? '';
    const expectation = this.#expected.get(path);
    if (expectation === undefined) return refuse(res, 404, 'nothing is offered here, or no longer');
    if (!isToken(req.headers.authorization, expectation.token))
      return refuse(res, 403, 'the token is not of this offer');
    const { expectant } = expectation;
    if (req.method !== expectant.method) return refuse(res, 405, `the offer is for ${expectant.method}`);
    this.#strangers.delete(req.socket);
    this.#withdraw(path);
    expectant.onRequest(req, res);
  }
}

function isToken(authorization: string | undefined, token: Buffer): boolean {
  if (authorization?.startsWith('Bearer ') !== true) return false;
  const given = Buffer.from(authorization.slice('Bearer '.length), 'base64url');
  return given.length === token.length && timingSafeEqual(given, token);
}

/** The body it may send is not read: the connection ends. */
function refuse(res: ServerResponse, status: number, why: string): void {
  res.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', [DIRECT_HEADER]: '1', connection: 'close' });
  res.end(`${why}\n`);
}
