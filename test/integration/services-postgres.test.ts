import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { newId, parseId } from '../../core/id.ts';
import { cancelExchange } from '../../core/wire/topology.ts';
import type { IsolateKind, Worker } from '../../runner/isolate/isolate.ts';
import { JS_ISOLATES } from '../contract/isolate-harness.ts';
import { usePostgres } from '../helpers/servers/postgres.ts';
import { until } from '../helpers/until.ts';
import { openTestRunner, type CallOptions, type CallOutcome, type TestRunner } from '../unit/runner/test-runner.ts';

const source = `
const never = () => new Promise(() => undefined);
const insert = (db, event) => db.query('insert into orders (name) values ($1)', [event.query.name]);
let atInit;
exports.init = async ({ services: { db } }) => {
  atInit = (await db.query('select 1 as one')).rows;
  await db.query('insert into orders (name) values ($1)', ['init']);
};
exports.order = async (event, { services: { db } }) => {
  const { rowCount } = await insert(db, event);
  switch (event.query.next) {
    case 'throw': throw new Error('no');
    case 'status': return { [Symbol.for('funcatron.reply')]: true, status: Number(event.query.status), body: 'x', headers: {} };
    case 'spin': for (;;);
    case 'hang': return never();
    case 'sleep': return db.query('select pg_sleep(60)');
    case 'caught': try { await db.query('select 1/0') } catch (error) { return error.code }
    case 'commit': try { await db.query(event.query.sql) } catch (error) { return error.message } return 'ok';
    case 'json': return { a: 1n };
    default: return { rowCount };
  }
};
exports.lazy = (event, { services: { db } }) => { insert(db, event); return 'done'; };
exports.late = async (event, { services: { db } }) => {
  const { promise, resolve } = Promise.withResolvers();
  setTimeout(() => resolve(insert(db, event)), 20);
  globalThis.late = promise.then(() => 'done', (error) => error.code);
  return 'early';
};
exports.wasLate = () => globalThis.late;
exports.tx = async (event, { services: { db } }) => {
  const ids = [];
  for (let i = 0; i < 2; i++) {
    ids.push((await db.query('select pg_current_xact_id()::text as id, pg_backend_pid() as pid')).rows[0]);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return ids;
};
exports.hold = async (event, { services: { db } }) => { await db.query('select 1'); return never(); };
exports.values = async (event, { services: { db } }) => {
  const { rows, fields } = await db.query(\`select $1::bytea as bytes, $2::int8 as big, $3::jsonb as json, $4::int4 as int,
    true as bool, null as nothing, 1.5::float8 as float, 1.10::numeric as exact, $5::timestamptz at time zone 'utc' as time, $6::int[] as list\`,
    [new Uint8Array([0, 255]), 9007199254740993n, { a: [1] }, 7, new Date(0), [1, 2]]);
  const [{ bytes, ...rest }] = rows;
  return { bytes: [bytes instanceof Uint8Array, ...bytes], ...rest, names: fields.map(({ name }) => name) };
};
exports.big = async (event, { services: { db } }) => {
  try { await db.query("select repeat('x', 1000000) as x from generate_series(1, 1000)") } catch (error) { return error.code }
};
exports.atInit = () => atInit;
exports.side = async (event, { services: { db } }) => {
  const results = await Promise.all([1, 2, 3].map((n) => db.query('select $1::int4 as n, pg_current_xact_id()::text as id', [n])));
  return results.map(({ rows }) => rows[0]);
};
`;
const OPERATIONS = [...source.matchAll(/^exports\.(\w+)/gm)].flatMap(([, name]) =>
  name === 'init' ? [] : [name ?? ''],
);

for (const [name, openIsolate] of Object.entries(JS_ISOLATES))
  describe(`service postgres in ${name}`, function () {
    this.timeout(60_000);
    const postgres = usePostgres();
    let folder: string;
    let isolate: IsolateKind;
    const workers: Worker[] = [];
    let test: TestRunner;
    let sql: Client;

    before(async () => {
      isolate = openIsolate();
      const recorded: IsolateKind = {
        name: isolate.name,
        async start(spec, events) {
          const worker = await isolate.start(spec, events);
          workers.push(worker);
          return worker;
        },
      };
      folder = mkdtempSync(join(tmpdir(), 'funcatron-secrets-'));
      writeFileSync(join(folder, 'DB_URL'), `${postgres.server().url}\n`);
      sql = await connect();
      await sql.query('create table orders (id serial primary key, name text not null)');
      await sql.query('create table parents (id int primary key)');
      await sql.query(`create table children (parent int references parents deferrable initially deferred)`);
      test = await openTestRunner({
        operations: OPERATIONS.map((operationId) => ({ operationId })),
        isolate: recorded,
        source,
        config: { secretsDir: folder },
        manifest: { services: { db: { type: 'postgres', url: { secret: 'DB_URL' }, poolMax: 2 } } },
      });
    });
    after(async () => {
      await test?.close();
      await sql?.end();
      await isolate?.close?.();
      rmSync(folder, { recursive: true, force: true });
    });

    async function connect(): Promise<Client> {
      const client = new Client(postgres.server().url);
      client.on('error', () => undefined);
      await client.connect();
      return client;
    }
    function callOf(
      operation: string,
      query: Record<string, string> = {},
      options: CallOptions = {},
    ): Promise<CallOutcome> {
      return test.call(OPERATIONS.indexOf(operation), { mayRerun: false, ...options, meta: { query } });
    }
    async function stored(name: string): Promise<number> {
      const { rows } = await sql.query<{ count: string }>('select count(*) from orders where name = $1', [name]);
      return Number(rows[0]?.count);
    }
    /** Settles when no transaction of the runner's is open. */
    async function allEnded(): Promise<void> {
      await until('the transactions have ended', async () => {
        const { rows } = await sql.query(
          `select 1 from pg_stat_activity where application_name = 'funcatron' and (xact_start is not null or state = 'active')`,
        );
        return rows.length === 0;
      });
    }

    it('commits what a call did before it is answered', async () => {
      const { status, body } = await callOf('order', { name: 'kept' });
      assert.deepEqual([status, body], [200, '{"rowCount":1}']);
      assert.equal(await stored('kept'), 1);
    });

    for (const [what, query, status, code] of [
      ['the func throws', { next: 'throw' }, 500, 'FUNC_ERROR'],
      ['it answers with status 500', { next: 'status', status: '500' }, 500, undefined],
      ['its answer cannot be sent', { next: 'json' }, 502, 'INVALID_RESPONSE'],
      ['the deadline passes', { next: 'hang' }, 504, 'TIMEOUT'],
      ['the deadline passes in the midst of a statement', { next: 'sleep' }, undefined, undefined],
    ] as const) {
      it(`rolls back when ${what}`, async () => {
        const answer = await callOf('order', { name: what, ...query }, { timeoutMs: 700 });
        if (status !== undefined) assert.equal(answer.status === 0 ? 504 : answer.status, status);
        if (code !== undefined && answer.status !== 0) assert.equal(answer.code, code);
        await allEnded();
        assert.equal(await stored(what), 0);
        assert.equal((await callOf('order', { name: 'after' })).status, 200);
      });
    }

    it('commits with status 499, an answer as any other', async () => {
      assert.equal((await callOf('order', { name: 'teapot', next: 'status', status: '499' })).status, 499);
      assert.equal(await stored('teapot'), 1);
    });

    it('rolls back when the worker is killed from outside', async () => {
      const pending = callOf('order', { name: 'kill -9', next: 'hang' });
      await until('the transaction is open', async () => {
        const { rows } = await sql.query(`select 1 from pg_stat_activity where state = 'idle in transaction'`);
        return rows.length === 1;
      });
      process.kill(workers.at(-1)?.pid ?? assert.fail(), 'SIGKILL');
      assert.equal((await pending).code, 'FUNC_CRASHED');
      await allEnded();
      assert.equal(await stored('kill -9'), 0);
      await until('a new worker answers', async () => (await callOf('order', { name: 'revived' })).status === 200);
    });

    it('rolls back when the func blocks its worker until that is killed', async () => {
      const pending = callOf('order', { name: 'killed', next: 'spin' }, { timeoutMs: 400 });
      await pending;
      await allEnded();
      assert.equal(await stored('killed'), 0);
      await until('a new worker answers', async () => (await callOf('order', { name: 'revived' })).status === 200);
    });

    for (const [what, next, state] of [
      ['while the func does something else', 'hang', 'idle in transaction'],
      ['in the midst of a statement, and stops that', 'sleep', 'active'],
    ] as const) {
      it(`rolls back when the client hangs up ${what}`, async () => {
        const id = newId();
        const pending = callOf('order', { name: what, next }, { id, timeoutMs: next === 'hang' ? 1_500 : 30_000 });
        await until('the transaction is open', async () => {
          const { rows } = await sql.query(
            `select 1 from pg_stat_activity where application_name = 'funcatron' and state = $1 and xact_start < now() - interval '50 ms'`,
            [state],
          );
          return rows.length === 1;
        });
        await test.broker.publish({
          exchange: cancelExchange.name,
          routingKey: '',
          body: parseId(id) ?? Buffer.alloc(0),
          properties: {},
        });
        await allEnded();
        assert.equal(await stored(what), 0);
        await pending;
      });
    }

    it('answers 500 COMMIT_FAILED when a deferred constraint refuses the commit', async () => {
      const answer = await callOf('order', {
        name: 'deferred',
        next: 'commit',
        sql: 'insert into children values (404)',
      });
      assert.deepEqual([answer.status, answer.code], [500, 'COMMIT_FAILED']);
      assert.doesNotMatch(answer.body, /children_parent/);
      assert.equal(await stored('deferred'), 0);
      await until('the log says why', () =>
        test.lines.some(
          (line) => /could not be committed/.test(line.message) && /children_parent/.test(JSON.stringify(line)),
        ),
      );
    });

    it('answers 500 COMMIT_FAILED when a statement had failed and the func made nothing of it', async () => {
      const answer = await callOf('order', { name: 'aborted', next: 'caught' });
      assert.deepEqual([answer.status, answer.code], [500, 'COMMIT_FAILED']);
      assert.equal(await stored('aborted'), 0);
    });

    it('does not let a func end the transaction itself, nor hide that in a second statement', async () => {
      const rollback = await callOf('order', { name: 'ended', next: 'commit', sql: 'rollback' });
      assert.deepEqual([rollback.status, rollback.code], [500, 'COMMIT_FAILED']);
      const two = await callOf('order', { name: 'two', next: 'commit', sql: 'select 1; commit' });
      assert.equal(two.code, 'COMMIT_FAILED');
      assert.deepEqual([await stored('ended'), await stored('two')], [0, 0]);
    });

    it('commits a query the func did not wait for, and refuses one after its end', async () => {
      assert.equal((await callOf('lazy', { name: 'lazy' })).body, 'done');
      assert.equal(await stored('lazy'), 1);
      assert.equal((await callOf('late', { name: 'late' })).body, 'early');
      assert.equal((await callOf('wasLate')).body, 'CALL_ENDED');
      assert.equal(await stored('late'), 0);
    });

    it('runs the queries a call makes at once one after the other, in its one transaction', async () => {
      const rows = JSON.parse((await callOf('side')).body) as { n: number; id: string }[];
      assert.deepEqual(
        rows.map(({ n }) => n),
        [1, 2, 3],
      );
      assert.equal(new Set(rows.map(({ id }) => id)).size, 1);
    });

    it('gives two calls at once a transaction each, on connections of their own', async () => {
      const answers = await Promise.all([callOf('tx'), callOf('tx')]);
      const [one, two] = answers.map(({ body }) => JSON.parse(body) as { id: string; pid: number }[]);
      assert.deepEqual(one?.[0], one?.[1]);
      assert.notEqual(one?.[0]?.id, two?.[0]?.id);
      assert.notEqual(one?.[0]?.pid, two?.[0]?.pid);
    });

    it('answers 503 SERVICE_BUSY when all connections are taken until the call has no time left', async () => {
      // Four fifths of its time the call waits; the rest is for its answer, on a machine that runs other tests too.
      const holders = [callOf('hold', {}, { timeoutMs: 4_000 }), callOf('hold', {}, { timeoutMs: 4_000 })];
      await until('both connections are taken', async () => {
        const { rows } = await sql.query(`select 1 from pg_stat_activity where state = 'idle in transaction'`);
        return rows.length === 2;
      });
      const answer = await callOf('order', { name: 'busy' }, { timeoutMs: 2_000 });
      assert.deepEqual([answer.status, answer.code], [503, 'SERVICE_BUSY']);
      await Promise.all(holders);
      await allEnded();
      assert.equal(await stored('busy'), 0);
      await until('there is room again', async () => (await callOf('order', { name: 'again' })).status === 200);
    });

    it('answers as before after the server was restarted between two calls', async () => {
      assert.equal((await callOf('order', { name: 'before' })).status, 200);
      await postgres.server().stop();
      await postgres.server().start();
      await sql.end();
      sql = await connect();
      const answers = await Promise.all([callOf('order', { name: 'restart' }), callOf('order', { name: 'restart' })]);
      assert.deepEqual(
        answers.map(({ status, body }) => [status, body]),
        [
          [200, '{"rowCount":1}'],
          [200, '{"rowCount":1}'],
        ],
      );
    });

    it('answers 500 without saying where while the server is away', async () => {
      await postgres.server().stop();
      const answer = await callOf('order', { name: 'away' });
      await postgres.server().start();
      await sql.end();
      sql = await connect();
      assert.deepEqual([answer.status, answer.code], [500, 'FUNC_ERROR']);
      await until('the log has the line', () =>
        test.lines.some(({ message, fields }) => /cannot be reached/.test(JSON.stringify({ message, fields }))),
      );
      assert.ok(test.lines.every((line) => !JSON.stringify(line).includes(String(postgres.server().port))));
    });

    it('gives values as JavaScript has them, and loses no digit', async () => {
      assert.deepEqual(JSON.parse((await callOf('values')).body), {
        bytes: [true, 0, 255],
        big: '9007199254740993',
        json: { a: [1] },
        int: 7,
        bool: true,
        nothing: null,
        float: 1.5,
        exact: '1.10',
        time: '1970-01-01 00:00:00',
        list: '{1,2}',
        names: ['bytes', 'big', 'json', 'int', 'bool', 'nothing', 'float', 'exact', 'time', 'list'],
      });
    });

    it('refuses a result longer than 8 MiB while it arrives', async () => {
      const before = process.memoryUsage().rss;
      assert.equal((await callOf('big', {}, { timeoutMs: 15_000 })).code, 'COMMIT_FAILED');
      assert.ok(process.memoryUsage().rss - before < 300 * 2 ** 20);
    });

    it('runs queries outside of a call on their own', async () => {
      assert.deepEqual(JSON.parse((await callOf('atInit')).body), [{ one: 1 }]);
      assert.ok((await stored('init')) >= 1);
    });
  });
