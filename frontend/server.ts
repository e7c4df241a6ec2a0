import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { FuncatronError, PROBLEM_CONTENT_TYPE, toProblem } from '../core/errors.ts';
import { mayTakeTime } from './body.ts';
import { writeProblem } from './reply.ts';

/** Longer than the idle time of usual load balancers (60 s): whoever closes first must not be us, or a call in its way is lost. */
const KEEP_ALIVE_MS = 72_000;
/**
 * A client has this long for its headers, and for the whole request: what trickles in slower holds a connection for
 * nothing. The body of a direct operation has until the deadline of its call.
 */
const HEADERS_MS = 10_000;
const REQUEST_MS = 120_000;
const CHECK_MS = 2_000;
const PROBE_MS = 60_000;

export interface FrontendServerOptions {
  readonly maxHeaderBytes: number;
  /** 10 s, and 120 s for a whole request, when absent; they are looked at every `checkMs`. */
  readonly headersMs?: number;
  readonly requestMs?: number;
  readonly checkMs?: number;
  /** Everything under `/_funcatron`. */
  readonly own: RequestListener;
  /** Every other request: it belongs to some bundle, or to none. */
  readonly calls: RequestListener;
}

/**
 * The HTTP server of a frontend, not listening yet. Calls go to the pipeline straight from `node:http`: Express in
 * front of them costs 4.1 µs a request on top of 11.8 (64 connections, Express 5.3, Node 26).
 */
export function createFrontendServer(options: FrontendServerOptions): Server {
  const { own, calls } = options;
  const server = createServer({
    maxHeaderSize: options.maxHeaderBytes,
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: options.headersMs ?? HEADERS_MS,
    requestTimeout: options.requestMs ?? REQUEST_MS,
    connectionsCheckingInterval: options.checkMs ?? CHECK_MS,
    // A client whose machine is gone says nothing, and may be the reader of a stream that has nothing to say either.
    keepAlive: true,
    keepAliveInitialDelay: PROBE_MS,
    // Node's own refusals have no body; these get a problem as every other.
    requireHostHeader: false,
  });
  function onRequest(req: IncomingMessage, res: ServerResponse): void {
    if (req.headers.host === undefined && req.httpVersion === '1.1') refuse(req, res, 'the request has no Host header');
    else if (isOwn(req.url ?? '')) own(req, res);
    else calls(req, res);
  }
  server.on('request', onRequest);
  // Without this listener Node says 100 Continue by itself, and a body that is refused anyway would be sent first.
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onExpectation);
  server.on('connect', onConnect);
  server.on('clientError', onClientError);
  return server;
}

/** Whatever else it sends belongs to a request that was not understood. */
function refuse(req: IncomingMessage, res: ServerResponse, message: string): void {
  writeProblem(req, res, new FuncatronError('INVALID_REQUEST', message), ['connection', 'close']);
}

/** Any other than `100-continue`. RFC 9110 §10.1.1 lets a server ignore or refuse it. */
function onExpectation(req: IncomingMessage, res: ServerResponse): void {
  refuse(req, res, `the expectation ${JSON.stringify(req.headers.expect)} is not known here`);
}

/** This server is no proxy. */
function onConnect(_req: IncomingMessage, socket: Duplex): void {
  const error = new FuncatronError('METHOD_NOT_ALLOWED', 'CONNECT is for proxies, which this server is not');
  socket.on('error', () => socket.destroy()); // the client did not wait for its answer
  endWith(socket, error);
}

const OWN_PATH = '/_funcatron';

function isOwn(url: string): boolean {
  if (!url.startsWith(OWN_PATH)) return false;
  const next = url[OWN_PATH.length];
  return next === undefined || next === '/' || next === '?';
}

/** What is not HTTP, or too long to be read, gets its answer here: there is no request to hand on. */
function onClientError(cause: NodeJS.ErrnoException, socket: Socket & { _httpMessage?: ServerResponse | null }): void {
  // An answer is on its way on this connection (Node's own handler looks at the same field); ours would be taken for it.
  // Unless the answer is due to the very request that breaks off here: it will not get another one.
  const due = socket._httpMessage ?? undefined;
  const isTimeout = cause.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  // Node looks at each request once, so this is all there will be said about it.
  if (isTimeout && due !== undefined && mayTakeTime(due.req)) return;
  const isAnswering = due !== undefined && (due.headersSent || due.req.complete);
  if (cause.code === 'ECONNRESET' || !socket.writable || isAnswering) return void socket.destroy();
  if (isTimeout) {
    return void socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n');
  }
  const error =
    cause.code === 'HPE_HEADER_OVERFLOW'
      ? new FuncatronError('HEADERS_TOO_LARGE', 'the request line and headers are longer than this server reads')
      : new FuncatronError('INVALID_REQUEST', `the request is not HTTP/1.1 (${cause.code ?? cause.message})`);
  endWith(socket, error);
}

/** Writes an answer where there is no `ServerResponse`, and ends the connection. */
function endWith(socket: Duplex, error: FuncatronError): void {
  const body = JSON.stringify(toProblem(error));
  const head = `HTTP/1.1 ${error.status} ${error.code}\r\nContent-Type: ${PROBLEM_CONTENT_TYPE}\r\n`;
  socket.end(`${head}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
}
