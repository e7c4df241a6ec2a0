import type { IncomingMessage, ServerResponse } from 'node:http';

/** Bytes of a refused body that are read and thrown away, so that the client gets to read the answer; then the connection goes. */
const MAX_DISCARDED_BYTES = 16 * 1024 * 1024;
/** How long that may take. */
const LINGER_MS = 5_000;

/** Pieces of a body that are kept apart: a body that comes a byte at a time would cost a hundred times its length. */
const MAX_PIECES = 4_096;

const EMPTY = Buffer.alloc(0);
const READING = Symbol('reading');

/** Who waits for a body. It ends with `onBody`, `onBodyTooLarge` or a false, once, unless the connection ends first. */
export interface BodyReader {
  onBody(body: Buffer): void;
  /** So many more bytes of it are here. False: they are not wanted, and the rest is being thrown away. */
  onBodyBytes(bytes: number): boolean;
  /** It is longer than allowed; the rest is being thrown away. */
  onBodyTooLarge(): void;
}

interface Reading {
  readonly reader: BodyReader;
  readonly maxBytes: number;
  chunks: Buffer[];
  bytes: number;
  isRefused: boolean;
}

interface ReadingRequest extends IncomingMessage {
  [READING]?: Reading;
}

/** What `Content-Length` says; without one a body may be as long as anything. */
export function declaredBytes(req: IncomingMessage): number {
  const length = req.headers['content-length'];
  if (length !== undefined) return Number(length);
  return req.headers['transfer-encoding'] === undefined ? 0 : Infinity;
}

/** Reads a whole body of at most `maxBytes`; what `Content-Length` says is believed before a byte is read. */
export function readBody(req: IncomingMessage, maxBytes: number, reader: BodyReader): void {
  const reading: Reading = { reader, maxBytes, chunks: [], bytes: 0, isRefused: false };
  if (req.headers['content-length'] !== undefined && declaredBytes(req) > maxBytes) refuse(reading);
  (req as ReadingRequest)[READING] = reading;
  req.on('data', onData);
  req.on('end', onEnd);
}

/**
 * Throws away what is left of a body that nobody reads any more, for so long and so many bytes that a client which sends
 * it gets to read its answer (RFC 9112 §9.6); then the connection goes. Once is enough.
 */
export function discardBody(req: IncomingMessage): void {
  if (req.readableEnded || req.destroyed || READING in req) return;
  const reader = { onBody() {}, onBodyBytes: () => false, onBodyTooLarge() {} };
  (req as ReadingRequest)[READING] = { reader, maxBytes: 0, chunks: [], bytes: 0, isRefused: true };
  req.on('data', onData);
  const timer = setTimeout(() => req.destroy(), LINGER_MS);
  req.on('close', () => clearTimeout(timer));
  // Who read it before may have paused it.
  req.resume();
}

/**
 * Keeps a connection whose request is not read to its end, for the answer to be read; a client that asked for its end has
 * it when both are over.
 */
export function keepUntilRead(req: IncomingMessage, res: ServerResponse): void {
  if (res.shouldKeepAlive) return;
  res.shouldKeepAlive = true;
  let left = 2;
  const over = (): void => {
    if (--left === 0) req.socket.end();
  };
  req.once('end', over);
  res.once('finish', over);
}

const unhurried = new WeakSet<IncomingMessage>();

/** The body of this request may take as long as its call. */
export function allowTime(req: IncomingMessage): void {
  unhurried.add(req);
}

export function mayTakeTime(req: IncomingMessage): boolean {
  return unhurried.has(req);
}

function onData(this: ReadingRequest, chunk: Buffer): void {
  const reading = this[READING];
  if (reading === undefined) return;
  reading.bytes += chunk.length;
  if (reading.isRefused) {
    if (reading.bytes > MAX_DISCARDED_BYTES) this.destroy();
  } else if (reading.bytes > reading.maxBytes) {
    refuse(reading);
  } else if (reading.reader.onBodyBytes(chunk.length)) {
    if (reading.chunks.length >= MAX_PIECES) reading.chunks = [Buffer.concat(reading.chunks)];
    reading.chunks.push(chunk);
  } else {
    discard(reading);
  }
}

function onEnd(this: ReadingRequest): void {
  const reading = this[READING];
  if (reading === undefined || reading.isRefused) return;
  reading.reader.onBody(join(reading.chunks));
}

function refuse(reading: Reading): void {
  discard(reading);
  reading.reader.onBodyTooLarge();
}

function discard(reading: Reading): void {
  reading.isRefused = true;
  reading.chunks = [];
}

/** A body that came in one piece, as most do, is not copied. */
function join(chunks: readonly Buffer[]): Buffer {
  return chunks.length < 2 ? (chunks[0] ?? EMPTY) : Buffer.concat(chunks);
}
