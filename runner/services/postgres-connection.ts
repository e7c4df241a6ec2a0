import { Client, DatabaseError, type Pool, type PoolClient } from 'pg';
import { FuncatronError } from '../../core/errors.ts';
import { MAX_RESULT_BYTES, serviceError, unreachable, waitMsOf } from './service.ts';

/** Connections of a pool: waiting for one, and what may come over one. */

/** Callers that wait for a connection of one pool; more are told at once that it is busy. */
const MAX_WAITING = 1_000;
/** What a result needs beside its values. */
const FRAMING_BYTES = 64 * 1024;
/** How long asking the server to stop a statement may take. */
const STOP_MS = 2_000;

/** A connection's state. Counts what a query receives, and cuts it off when that is too much: the client keeps whole results in memory. */
class Line {
  /** It can run no more statements. */
  isLost = false;
  /** That is because a result was too long. */
  isExceeded = false;
  readonly #client: PoolClient;
  #bytes = 0;

  constructor(client: PoolClient) {
    this.#client = client;
    client.connection.stream.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.length;
      if (this.#bytes <= MAX_RESULT_BYTES + FRAMING_BYTES) return;
      this.isExceeded = true;
      this.cut();
    });
  }

  /** Ends the connection in the midst of whatever it does. */
  cut(): void {
    this.isLost = true;
    this.#client.connection.stream.destroy();
  }

  begin(): void {
    this.#bytes = 0;
  }
}

const lines = new WeakMap<PoolClient, Line>();

export function lineOf(client: PoolClient): Line {
  const line = lines.get(client) ?? new Line(client);
  lines.set(client, line);
  return line;
}

/**
 * A connection, to be released by the caller.
 * @throws SERVICE_BUSY when the wait for one takes too long for the call; TIMEOUT when the call ends meanwhile; an Error
 *   SERVICE_DOWN when the server cannot be reached
 */
export async function acquire(
  pool: Pool,
  service: string,
  deadline: number | undefined,
  signal: AbortSignal,
): Promise<PoolClient> {
  if (pool.waitingCount >= MAX_WAITING) throw busy(service);
  const waitMs = waitMsOf(deadline);
  const { promise: givenUp, reject } = Promise.withResolvers<never>();
  const onAbort = (): void =>
    reject(new FuncatronError('TIMEOUT', `the call ended before service ${service} was free`));
  const timer = setTimeout(() => reject(busy(service)), waitMs);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const connected = pool.connect();
  try {
    const client = await Promise.race([connected, givenUp]);
    // Without a listener a connection that is lost between two queries would end the runner.
    if (client.listenerCount('error', ignore) === 0) client.on('error', ignore);
    return client;
  } catch (error) {
    connected.then(
      (late) => late.release(),
      () => undefined,
    );
    if (error instanceof FuncatronError) throw error;
    throw unreachable(service, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * Asks the server to stop what a connection runs: by itself it notices only at the statement's end that nobody is there,
 * and keeps its locks until then. Over a connection of its own, because those of the pool may all be taken.
 */
export async function stopStatement(url: string, client: PoolClient): Promise<void> {
  // The types of pg do not know it.
  const { processID } = client as PoolClient & { readonly processID?: number | null };
  const config = { connectionString: url, connectionTimeoutMillis: STOP_MS, query_timeout: STOP_MS };
  const other = new Client(config);
  other.on('error', ignore);
  try {
    await other.connect();
    await other.query('select pg_cancel_backend($1)', [processID]);
  } catch {
    // It ends at its `statement_timeout`, the call's deadline.
  }
  await other.end();
}

function ignore(): void {
  // The query under way, or the next one, fails of it.
}

function busy(service: string): FuncatronError {
  const message = `service ${service} had no free connection in time`;
  return new FuncatronError('SERVICE_BUSY', message, { data: { retryAfterS: 1 } });
}

/** Whether the connection is gone, rather than the statement wrong: class 08, or the server is shutting down (57P01 … 57P03). */
export function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof DatabaseError)) return true;
  return error.code === undefined || error.code.startsWith('08') || error.code.startsWith('57P');
}

/** What the guest is told of a query that failed: SQLSTATE and the server's words, which a connection's failure has none of. */
export function queryFailed(service: string, error: unknown): Error {
  if (error instanceof FuncatronError) return error;
  if (error instanceof DatabaseError && !isConnectionLost(error)) {
    return serviceError(error.code ?? 'XX000', `service ${service}: ${error.message}`);
  }
  return error instanceof Error && 'code' in error && error.code === '25P02' ? error : unreachable(service, error);
}
