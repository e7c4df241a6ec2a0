import assert from 'node:assert/strict';
import { CallFlag } from '../../core/wire/envelope.ts';
import type { GuestOperation, GuestResult } from '../../runner/isolate/isolate.ts';
import { until } from '../helpers/until.ts';
import type { WorkerHarness, WorkerStarter } from './isolate-harness.ts';

/** What a call finds in its context beside the event: services with their scope, secrets, other funcs, providers, its own log. */
export function describeHooks(workers: WorkerStarter): void {
  describe('context.services', () => {
    const SERVICES = {
      db: { type: 'postgres' },
      cache: { type: 'redis' },
      crm: { type: 'http' },
      bus: { type: 'amqp' },
    };
    const source = `
      exports.run = async (event, { services: { db, cache, crm, bus } }) => {
        const { rows } = await db.query('select $1::int4 as n, $2::bytea as b', [7, new Uint8Array([0, 255])]);
        const answer = await crm.fetch('/x', { method: 'PUT', body: 'ü' });
        await bus.publish('orders', 'new', { a: 1 });
        const got = [rows[0].n, ...rows[0].b, await cache.get('k'), answer.status, await answer.text()];
        if (event.body === 'throw') throw new Error('no');
        return got;
      };
      exports.late = (event, { services: { cache } }) => { setTimeout(() => cache.get('k').catch(({ code }) => console.log(code)), 5); return 1 };`;

    async function start(perform: (name: string) => GuestResult | undefined): Promise<WorkerHarness> {
      const worker = await workers.start(source, { services: SERVICES }, ['run', 'late']);
      worker.perform = ({ name }) => {
        const result = perform(name) ?? RESULTS[name];
        return result === undefined ? Promise.reject(new Error(name)) : Promise.resolve(result);
      };
      return worker;
    }

    it('asks the runner for all of it in the name of the call, and commits before the answer', async () => {
      const worker = await start(() => undefined);
      assert.deepEqual((await worker.call()).json(), [7, 0, 255, 'v', 200, 'hé']);
      assert.deepEqual(worker.operations.map(summaryOf), [
        ['postgres.query', 'db', ''],
        ['http.fetch', 'crm', 'ü'],
        ['amqp.publish', 'bus', '{"a":1}'],
        ['redis.command', 'cache', ''],
        ['scope.end', undefined, ''],
      ]);
      assert.equal(new Set(worker.operations.map(({ callId }) => callId)).size, 1);
      assert.match(worker.operations[0]?.callId ?? '', /^[0-9a-f-]{36}$/);
    });

    it('commits nothing of a call that failed', async () => {
      const worker = await start(() => undefined);
      assert.equal((await worker.call({ body: '"throw"' })).status, 500);
      await worker.worker.ping();
      assert.ok(worker.operations.every(({ name }) => name !== 'scope.end'));
    });

    it('fails the call whose commit fails', async () => {
      const worker = await start((name) => {
        if (name === 'scope.end') throw Object.assign(new Error('disk full'), { code: 'COMMIT_FAILED' });
        return undefined;
      });
      const reply = await worker.call();
      assert.deepEqual([reply.status, (reply.json() as { code: string }).code], [500, 'COMMIT_FAILED']);
    });

    it('refuses a service after the call has ended', async () => {
      const worker = await start(() => undefined);
      await worker.call({ operation: 1 });
      await until('it is told', () => worker.logs[0]?.message === 'CALL_ENDED');
      assert.deepEqual(worker.operations, []);
    });
  });

  describe('context', () => {
    it('has the secrets the manifest names, and nothing that changes them', async () => {
      const worker = await workers.start(
        `exports.init = ({ secrets, state }) => { state.atInit = secrets.KEY };
         exports.run = (event, { secrets, state }) => [secrets, state.atInit, Object.isFrozen(secrets)]`,
        { secrets: { KEY: 'geheim ü' } },
      );
      assert.deepEqual((await worker.call()).json(), [{ KEY: 'geheim ü' }, 'geheim ü', true]);
    });

    it('invokes other funcs: bodies of every kind there and back, failures with their code', async () => {
      const worker = await workers.start(`exports.run = async (event, context) => {
        const bytes = await context.invoke('other', 'echo', { params: { id: 1 }, headers: { 'X-A': 'b' }, body: new Uint8Array([0, 255]) });
        const json = await context.invoke('other', 'echo', { body: { a: 'ü' } });
        const code = await context.invoke('other', 'gone').catch((error) => [error instanceof Error, error.code, error.message]);
        return [[...bytes.body], json.status, json.body, code];
      }`);
      worker.perform = ({ args, bytes }) => {
        const { operationId, headers } = args as { operationId: string; headers: Readonly<Record<string, string>> };
        if (operationId === 'gone') return Promise.reject(Object.assign(new Error('none'), { code: 'NO_RUNNER' }));
        return Promise.resolve({ result: { status: 201, headers }, bytes });
      };
      const expected = [[0, 255], 201, { a: 'ü' }, [true, 'NO_RUNNER', 'none']];
      assert.deepEqual((await worker.call()).json(), expected);
      const [first] = worker.operations;
      assert.equal(first?.name, 'invoke');
      assert.deepEqual(first.args['headers'], { 'x-a': 'b', 'content-type': 'application/octet-stream' });
      assert.equal(typeof first.callId, 'string');
    });

    it('goes through the providers of the bundle, which vend to each call and are released with it', async () => {
      const worker = await workers.start(
        `const seen = [];
         exports.providers = [
           { kind: 'context', extend: (context) => ({ who: 'ann' }) },
           { kind: 'middleware', wrap: (func) => async (event, context) => [context.who, await func(event, context)] },
           { kind: 'service', type: 'ledger', build: (name, settings) => ({ settings }),
             vend: ({ settings }, { callId }) => ({ step: settings.step, hasId: typeof callId === 'string' }),
             release: (item, success) => { seen.push(success) } },
         ];
         exports.run = (event, { services }) => { const item = services.book; if (event.body === 'throw') throw new Error('no'); return item };
         exports.seen = () => seen;`,
        { services: { book: { type: 'ledger', step: 3 } as { type: string } } },
        ['run', 'seen'],
      );
      assert.deepEqual((await worker.call()).json(), ['ann', { step: 3, hasId: true }]);
      assert.equal((await worker.call({ body: '"throw"' })).status, 500);
      assert.deepEqual((await worker.call({ operation: 1 })).json(), ['ann', [true, false]]);
    });

    it('logs at the level a call asks for, and gives back its lines with its answer', async () => {
      const worker = await workers.start(
        `exports.run = (event, { log }) => { log.debug('seen', { n: 1 }); console.info('and', 'this'); return 1 }`,
        { logLevel: 'warn' },
      );
      const meta = { log: { level: 'debug', isReturned: true } } as const;
      const loud = await worker.call({ flags: CallFlag.log, meta });
      assert.equal(loud.json(), 1);
      assert.deepEqual(
        loud.log?.map(({ level, message, fields }) => [level, message, fields]),
        [
          ['debug', 'seen', { n: 1 }],
          ['info', 'and this', undefined],
        ],
      );
      assert.equal((await worker.call()).log, undefined);
      assert.equal(worker.logs.length, 2);
    });
  });
}

const EMPTY = { result: {} };
const RESULTS: Readonly<Record<string, GuestResult>> = {
  'postgres.query': {
    result: {
      fields: [
        { name: 'n', type: 23 },
        { name: 'b', type: 17 },
      ],
      rows: [['7', '\\x00ff']],
      rowCount: 1,
    },
  },
  'redis.command': { result: { value: 'v' } },
  'http.fetch': {
    result: { url: '/x', status: 200, statusText: 'OK', headers: [], redirected: false },
    bytes: Buffer.from('hé'),
  },
  'amqp.publish': EMPTY,
  'scope.end': EMPTY,
};

function summaryOf({ name, args, bytes }: GuestOperation): unknown[] {
  return [name, args['service'], bytes.toString()];
}
