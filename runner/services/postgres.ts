import { Pool, type PoolClient, type QueryArrayResult, type QueryConfig, type QueryResult } from 'pg';
import { FuncatronError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import { acquire, isConnectionLost, lineOf, queryFailed, stopStatement } from './postgres-connection.ts';
import type { CallScope, Vended } from './scopes.ts';
import { MAX_RESULT_BYTES, runMsOf, type Service, serviceError } from './service.ts';

/** Rollbacks and commits that take longer end with their connection. */
const ROLLBACK_MS = 2_000;
const CONNECT_MS = 10_000;
const IDLE_MS = 10_000;

interface Statement {
  readonly sql: string;
  readonly parameters: unknown[];
}

/** As PostgreSQL writes them: the isolate reads them. */
const AS_TEXT = { getTypeParser: () => (text: string | Buffer) => text };

/**
 * `context.services.<name>` of type postgres.
 *
 * ```
 * postgres.query {sql, parameters: JSON[], deadline?} → {fields: [{name, type: OID}], rows: (string | null)[][], rowCount}
 * ```
 * The first query of a call takes a connection of the pool and begins a transaction; outside of a call each query is
 * its own. Connections are opened when they are needed and closed after 10 s without use.
 */
export function createPostgres(name: string, url: string, poolMax: number, log: Log): Service {
  const pool = new Pool({
    connectionString: url,
    max: poolMax,
    idleTimeoutMillis: IDLE_MS,
    connectionTimeoutMillis: CONNECT_MS,
    application_name: 'funcatron',
  });
  // Of a connection nobody uses: the pool has dropped it already.
  pool.on('error', (error) => log.debug({ service: name, reason: error.message }, 'an idle connection was lost'));
  return {
    vends: true,
    async run(request, scope, signal) {
      const statement = statementOf(name, request);
      if (scope === undefined) return await runAlone(pool, name, statement, signal);
      return await scope.vend(pool, () => new Transaction(pool, url, poolMax, name, scope)).query(statement);
    },
    close: () => pool.end(),
  };
}

function statementOf(name: string, { name: operation, args }: GuestOperation): Statement {
  const { sql, parameters } = args;
  if (operation === 'postgres.query' && typeof sql === 'string' && Array.isArray(parameters))
    return { sql, parameters };
  throw new FuncatronError('INVALID_REQUEST', `service ${name} cannot do ${operation} with these arguments`);
}

async function runAlone(pool: Pool, name: string, statement: Statement, signal: AbortSignal): Promise<GuestResult> {
  const client = await acquire(pool, name, undefined, signal);
  const line = lineOf(client);
  const onAbort = (): void => line.cut();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await query(client, name, statement, runMsOf(undefined));
  } finally {
    signal.removeEventListener('abort', onAbort);
    giveBack(client);
  }
}

/** Back to the pool, unless it is of no more use: lost, or in the midst of a transaction or a statement. */
function giveBack(client: PoolClient): void {
  client.release(lineOf(client).isLost || client.getTransactionStatus() !== 'I');
}

/** The transaction of a call, on a connection of its own from BEGIN to the end of the call. */
class Transaction implements Vended {
  readonly #pool: Pool;
  readonly #url: string;
  readonly #attempts: number;
  readonly #service: string;
  readonly #scope: CallScope;
  readonly #begun: Promise<PoolClient>;
  /** Settles when no statement runs: they run one after the other. */
  #last: Promise<unknown>;
  #isRunning = false;
  #isOver = false;
  /** The func ended the transaction itself, or the connection is of no more use. */
  #isBroken = false;

  constructor(pool: Pool, url: string, poolMax: number, service: string, scope: CallScope) {
    this.#pool = pool;
    this.#url = url;
    this.#attempts = poolMax + 1;
    this.#service = service;
    this.#scope = scope;
    this.#begun = this.#begin();
    this.#last = this.#begun.catch(() => undefined); // Every query hears of it.
  }

  query(statement: Statement): Promise<GuestResult> {
    const result = this.#last.then(() => this.#run(statement));
    this.#last = result.catch(() => undefined); // Whoever asked hears of it.
    return result;
  }

  async #run(statement: Statement): Promise<GuestResult> {
    const client = await this.#begun;
    if (this.#isOver) throw new FuncatronError('TIMEOUT', 'the call has ended');
    if (this.#isBroken) throw this.#brokenError();
    this.#isRunning = true;
    try {
      const result = await query(client, this.#service, statement, runMsOf(this.#scope.deadline));
      if (client.getTransactionStatus() === 'I') {
        this.#isBroken = true;
        throw this.#brokenError();
      }
      return result;
    } catch (error) {
      this.#isBroken ||= client.getTransactionStatus() === 'I';
      throw error;
    } finally {
      this.#isRunning = false;
    }
  }

  async release(success: boolean): Promise<void> {
    let client: PoolClient;
    try {
      client = await this.#begun;
    } catch {
      return; // Nothing was done; the func was told so when it asked.
    }
    if (success) {
      await this.#last;
      await this.#commit(client);
    } else {
      this.#isOver = true;
      await this.#rollback(client);
    }
  }

  /** Connections that sat in the pool while the server restarted show it only now: another one is taken. */
  async #begin(): Promise<PoolClient> {
    for (let attempt = 1; ; attempt++) {
      const client = await acquire(this.#pool, this.#service, this.#scope.deadline, this.#scope.signal);
      const ms = runMsOf(this.#scope.deadline);
      try {
        await command(client, `BEGIN; SET LOCAL statement_timeout = ${ms}`, ms);
        return client;
      } catch (error) {
        client.release(true);
        if (!isConnectionLost(error) || attempt >= this.#attempts) throw queryFailed(this.#service, error);
      }
    }
  }

  async #commit(client: PoolClient): Promise<void> {
    try {
      if (this.#isBroken) throw this.#brokenError();
      // Of a transaction in which a statement failed PostgreSQL makes a ROLLBACK, and calls that a success.
      const { command: done } = await command(client, 'COMMIT', runMsOf(this.#scope.deadline));
      if (done !== 'COMMIT')
        throw serviceError('25P02', `service ${this.#service}: a statement of the transaction had failed`);
    } catch (error) {
      throw queryFailed(this.#service, error);
    } finally {
      giveBack(client);
    }
  }

  async #rollback(client: PoolClient): Promise<void> {
    if (this.#isRunning) await stopStatement(this.#url, client);
    // Stopped, it may go back to the pool; else the server rolls back what has no connection any more.
    if (this.#isRunning || lineOf(client).isLost) return client.release(true);
    try {
      await command(client, 'ROLLBACK', ROLLBACK_MS);
    } catch {
      // The connection is lost, and the transaction with it.
    }
    giveBack(client);
  }

  #brokenError(): FuncatronError {
    const hint = 'Let the call end the transaction: it commits when the func succeeds.';
    const message = `service ${this.#service}: the transaction of the call was ended by one of its statements`;
    return new FuncatronError('INVALID_REQUEST', message, { data: { hint } });
  }
}

/** Settles within `query_timeout` ms, which the types of pg do not know; what is late is lost with its connection. */
interface TimedQuery extends QueryConfig {
  readonly query_timeout: number;
}

async function command(client: PoolClient, text: string, ms: number): Promise<QueryResult> {
  const config: TimedQuery = { text, query_timeout: ms };
  try {
    return await client.query(config);
  } catch (error) {
    lineOf(client).isLost ||= isConnectionLost(error);
    throw error;
  }
}

async function query(client: PoolClient, service: string, statement: Statement, ms: number): Promise<GuestResult> {
  const line = lineOf(client);
  line.begin();
  const config = {
    text: statement.sql,
    values: statement.parameters,
    rowMode: 'array' as const,
    types: AS_TEXT,
    query_timeout: ms,
    // One statement at a time: several in one string could end the transaction in the midst.
    queryMode: 'extended',
  };
  let result: QueryArrayResult<(string | null)[]>;
  try {
    result = await client.query<(string | null)[]>(config);
  } catch (error) {
    line.isLost ||= isConnectionLost(error);
    if (line.isExceeded) {
      const message = `service ${service}: the result is longer than ${MAX_RESULT_BYTES} bytes`;
      throw new FuncatronError('RESPONSE_TOO_LARGE', message, { data: { hint: 'Add a LIMIT.' } });
    }
    throw queryFailed(service, error);
  }
  const fields = result.fields.map(({ name, dataTypeID }) => ({ name, type: dataTypeID }));
  return { result: { fields, rows: result.rows, rowCount: result.rowCount ?? 0 } };
}
