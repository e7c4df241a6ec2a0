import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import { FuncatronError } from '../../core/errors.ts';
import { newIdBytes, openProcessIsolate, WorkerStarter } from '../contract/isolate-harness.ts';
import { RuntimeStarter } from '../contract/runtime-harness.ts';
import { createNodeRuntime } from '../../runner/runtimes/node.ts';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';
import { until } from '../helpers/until.ts';

const EXAMPLES = 'test/fixtures/bundles/providers';

describe('providers', function () {
  this.timeout(60_000);

  describe('worked examples', () => {
    let cluster: EmbeddedCluster | undefined;

    before(async () => {
      execFileSync(process.execPath, ['tools/build-inside.mjs']);
      cluster = await openEmbedded();
      await cluster.deploy(EXAMPLES);
    });
    after(() => cluster?.close());

    const call = (path: string, init?: RequestInit) => fetch(`${cluster?.httpUrl}/provided${path}`, init);

    it('middleware: measures and adds a header', async () => {
      const response = await call('/items/ab/price');
      assert.match(response.headers.get('x-took') ?? '', /^getPrice \d+ ms$/);
    });

    it('serializer: writes rows as CSV', async () => {
      const response = await call('/items');
      assert.equal(response.headers.get('content-type'), 'text/csv; charset=utf-8');
      assert.equal(await response.text(), 'sku,name\r\nab,Nut\r\nabcd,"Bolt, ""long"""\r\n');
    });

    it('deserializer: reads CSV as rows; context: has the tenant', async () => {
      const response = await call('/items', {
        method: 'POST',
        headers: { 'content-type': 'text/csv', 'x-tenant': 'acme' },
        body: 'sku,name\nx,"a ""b"""\ny,c\n',
      });
      assert.deepEqual(await response.json(), { added: 2, first: { sku: 'x', name: 'a "b"' }, tenant: 'acme' });
    });

    it('dispatcher and service of its own: finds funcs by path, and prices by a service of type price-list', async () => {
      assert.equal(await (await call('/items/abcd/price')).text(), '4.80 EUR');
    });

    it('service with something per call: kept when the call succeeds, undone when it fails', async () => {
      const seats = async (): Promise<unknown> => (await call('/seats')).json();
      const book = async (query: string): Promise<number> => (await call(`/seats?${query}`, { method: 'POST' })).status;
      assert.equal(await book('count=2'), 204);
      assert.deepEqual(await seats(), { free: 3, sold: 2 });
      assert.equal(await book('count=4'), 500, 'there are only three left');
      assert.equal(await book('count=3&then=fail'), 500);
      assert.deepEqual(await seats(), { free: 3, sold: 2 });
      assert.equal(await book('count=3&then=hang'), 504);
      await until('the seats are free again', async () => ((await seats()) as { free: number }).free === 3);
      assert.deepEqual(await seats(), { free: 3, sold: 2 });
    });

    it('getSwagger and getVersion: run at pack, and their result is the document of the archive', async () => {
      const { api } = await packBundle(EXAMPLES);
      assert.deepEqual([api.title, api.version], ['Provided by code', '2.1.0']);
      const { digest } = await packBundle(EXAMPLES);
      assert.equal((await packBundle(EXAMPLES)).digest, digest);
    });
  });

  describe('in a worker', () => {
    const workers = new WorkerStarter(() => isolate);
    let isolate: ReturnType<typeof openProcessIsolate>;
    before(() => {
      isolate = openProcessIsolate();
    });
    afterEach(() => workers.endAll());
    after(() => isolate.close?.());

    const refusal = async (source: string, spec = {}) => {
      const error: unknown = await workers.start(source, spec).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.ok(error instanceof FuncatronError);
      assert.equal(error.code, 'DEPLOY_FAILED');
      return error;
    };

    it('the highest order is outermost and first, of middlewares and of what replaces an operation', async () => {
      const worker = await workers.start(`
        const seen = [];
        const middleware = (name, order) => ({ kind: 'middleware', order, wrap: (func) => (event, context) => { seen.push(name); return func(event, context); } });
        const extend = (name, order) => ({ kind: 'context', order, extend: (context) => { seen.push(name); return { who: (context.who ?? '') + name }; } });
        const version = (name, order) => ({ kind: 'operation', order, install: (table) => {
          const inner = table.get('dispatcherFor');
          table.set('dispatcherFor', (operation) => { const func = inner(operation); return (event, context) => { seen.push(name); return func(event, context); }; });
        } });
        exports.providers = [middleware('m1', 1), version('o1', 1), extend('c1', 1), middleware('m5', 5), version('o5', 5), extend('c5', 5), middleware('m0')];
        exports.run = (event, { who, callId }) => [...seen, who, typeof callId];
      `);
      assert.deepEqual((await worker.call()).json(), ['c5', 'c1', 'm5', 'm1', 'm0', 'o5', 'o1', 'c5c1', 'string']);
    });

    it('sets providers up before init, ends them after destroy, the last that was added first', async () => {
      const worker = await workers.start(
        `
        exports.providers = [{ kind: 'service', type: 'counter', build: async (name, settings, { addEndOfLife, log }) => {
          addEndOfLife(() => log.info('end 1'));
          addEndOfLife(() => { throw new Error('end 2'); });
          addEndOfLife(async () => { await null; log.info('end 3'); });
          await null;
          return { step: settings.step };
        } }];
        exports.init = ({ services, state }) => { state.step = services.count.step; };
        exports.run = (event, { state, services }) => [state.step, services.count.step];
        exports.destroy = ({ log }) => log.info('destroyed');
      `,
        { services: { count: { type: 'counter', step: 3 } as { type: string } } },
      );
      assert.deepEqual((await worker.call()).json(), [3, 3]);
      await worker.worker.close();
      await until('all lines', () => worker.logs.length === 4);
      const messages = worker.logs.map(({ message }) => message);
      assert.deepEqual(messages, ['destroyed', 'end 3', 'uncaught in the end of life: Error: end 2', 'end 1']);
    });

    it('waits for a context that takes time, and fails the call when it throws', async () => {
      const worker = await workers.start(`
        exports.providers = [{ kind: 'context', async extend(context, event) {
          await null;
          if (event.headers.authorization === undefined) throw new Error('who?');
          return { user: 'ann', log: { info: (text) => context.log.info('ann: ' + text) } };
        } }];
        exports.run = (event, context) => { context.log.info('here'); return [context.user, 'user' in context, context.remainingMs() > 0, context.signal.aborted]; };
      `);
      const headers = { authorization: 'x' };
      assert.deepEqual((await worker.call({ meta: { headers } })).json(), ['ann', true, true, false]);
      assert.equal(worker.logs[0]?.message, 'ann: here');
      assert.equal((await worker.call({ meta: { headers: {} } })).status, 500);
    });

    it('fails the start with the error of the provider that threw, and where', async () => {
      const error = await refusal(`
        exports.run = () => 1;
        exports.providers = [{ kind: 'middleware', wrap() { throw new RangeError('no room') } }];
      `);
      assert.match(error.message, /failed in its providers: RangeError: no room \(bundle\.js:3:/);
    });

    it('fails the start when a service is of a type nobody provides', async () => {
      const services = { db: { type: 'oracle' } };
      assert.match((await refusal('exports.run = () => 1', { services })).message, /service db is of type oracle/);
      const source = `exports.run = () => 1; exports.providers = [{ kind: 'context', extend() {} }]`;
      assert.match((await refusal(source, { services })).message, /service db is of type oracle/);
    });

    describe('services with something per call', () => {
      /** A ledger that writes down what is vended and released. */
      const LEDGER = `
        const seen = [];
        const ledger = (type, order) => ({ kind: 'service', type, order,
          build: (name, settings, { addEndOfLife }) => {
            seen.push('build ' + name);
            addEndOfLife(() => console.log('end ' + name));
            return { name, isService: true };
          },
          vend: ({ name }, { callId, operationId }) => {
            seen.push('vend ' + name);
            return { name, operationId, hasId: typeof callId === 'string' };
          },
          release: ({ name }, success, service) => {
            seen.push((success ? 'keep ' : 'undo ') + name);
            if (service.isService !== true) throw new Error('not the service');
            if (service.refuses) throw new Error('disk full');
          },
        });
        exports.providers = [ledger('late', 7), ledger('early', 1)];
        exports.init = ({ services }) => { if (!services.a.isService) throw new Error('init has no call') };
        exports.seen = (event) => (event.body === 'peek' ? seen : seen.splice(0));
        exports.good = (event, { services }) => [services.a, services.b, services.a === services.a];
        exports.lazy = () => 'took nothing';
        exports.throws = (event, { services }) => { services.a; services.b; throw new Error('no') };
        exports.status = (event, { services }) => (services.a, { [Symbol.for('funcatron.reply')]: true, status: 500, headers: {} });
        exports.found = (event, { services }) => (services.a, { [Symbol.for('funcatron.reply')]: true, status: 404, headers: {} });
        exports.waits = (event, { services, signal }) => new Promise((resolve) => {
          services.a;
          signal.addEventListener('abort', () => {
            try { services.b } catch (error) { seen.push(error.code) }
            seen.push('aborted');
          });
          if (event.body === 'end') signal.addEventListener('abort', () => resolve('all the same'));
          console.log('waits');
        });
      `;
      const NAMES = ['seen', 'good', 'lazy', 'throws', 'status', 'found', 'waits'];
      const services = { a: { type: 'late' }, b: { type: 'early' } };
      const SEEN = 0;
      const startLedger = async () => {
        const worker = await workers.start(LEDGER, { services }, NAMES);
        const run = (name: string, call = {}) => worker.call({ operation: NAMES.indexOf(name), ...call });
        const seen = async (how = 'take') => (await worker.call({ operation: SEEN, body: JSON.stringify(how) })).json();
        assert.deepEqual(await seen(), ['build b', 'build a'], 'the lowest order begins');
        return { worker, run, seen };
      };

      it('are vended when they are first read, and kept in reverse when the call succeeds', async () => {
        const { run, seen } = await startLedger();
        const item = (name: string) => ({ name, operationId: 'good', hasId: true });
        assert.deepEqual((await run('good')).json(), [item('a'), item('b'), true]);
        assert.deepEqual(await seen(), ['vend a', 'vend b', 'keep b', 'keep a']);
        await run('lazy');
        assert.deepEqual(await seen(), []);
        assert.equal((await run('found')).status, 404);
        assert.deepEqual(await seen(), ['vend a', 'keep a']);
      });

      it('are undone when the func throws or answers 500', async () => {
        const { run, seen } = await startLedger();
        assert.equal((await run('throws')).status, 500);
        assert.deepEqual(await seen(), ['vend a', 'vend b', 'undo b', 'undo a']);
        assert.equal((await run('status')).status, 500);
        assert.deepEqual(await seen(), ['vend a', 'undo a']);
      });

      it('are undone at the deadline and when the caller hangs up, though the func goes on, and no more are vended', async () => {
        const { worker, run, seen } = await startLedger();
        void worker.callAll([{ operation: NAMES.indexOf('waits'), deadlineMs: 50 }]).catch(() => undefined);
        const all = ['vend a', 'CALL_ENDED', 'aborted', 'undo a'];
        await until('it is undone', async () => ((await seen('peek')) as string[]).includes('undo a'));
        assert.deepEqual(await seen(), all);
        const id = newIdBytes();
        const reply = run('waits', { id, body: '"end"' });
        await until('it waits', () => worker.logs.filter(({ message }) => message === 'waits').length === 2);
        worker.worker.cancel(id);
        assert.equal(((await reply).json() as { code: string }).code, 'TIMEOUT');
        assert.deepEqual(await seen(), all);
      });

      it('fail the call with COMMIT_FAILED when keeping them fails, and undo the others', async () => {
        const source = LEDGER.replace('{ name, isService: true }', "{ name, isService: true, refuses: name === 'b' }");
        const worker = await workers.start(source, { services }, NAMES);
        const reply = await worker.call({ operation: NAMES.indexOf('good') });
        assert.equal((reply.json() as { code: string }).code, 'COMMIT_FAILED');
        const seen = (await worker.call({ operation: SEEN })).json() as string[];
        assert.deepEqual(seen.slice(-2), ['keep b', 'undo a']);
        assert.ok(worker.logs.some(({ message }) => message.includes('disk full')));
      });

      it('end in reverse of their order when the worker does', async () => {
        const { worker } = await startLedger();
        await worker.worker.close();
        const ends = worker.logs.map(({ message }) => message);
        assert.deepEqual(ends, ['end a', 'end b']);
      });

      it('may be promises: what they become is released, and nothing where they failed', async () => {
        const worker = await workers.start(
          `
          const seen = [];
          exports.providers = [{ kind: 'service', type: 'slow', build: () => ({}),
            vend: async (service, { log }) => { await null; if (service.fails) throw new Error('none left'); return 'item'; },
            release: async (item, success) => { await null; seen.push([item, success]); } }];
          exports.good = async (event, { services }) => [await services.a];
          exports.bad = async (event, { services }) => { await services.b };
          exports.init = ({ services }) => { services.b.fails = true };
          exports.seen = () => seen;
        `,
          { services: { a: { type: 'slow' }, b: { type: 'slow' } } },
          ['good', 'bad', 'seen'],
        );
        assert.deepEqual((await worker.call()).json(), ['item']);
        assert.equal((await worker.call({ operation: 1 })).status, 500);
        assert.deepEqual((await worker.call({ operation: 2 })).json(), [['item', true]]);
      });
    });

    const malformed: readonly (readonly [string, RegExp])[] = [
      [`{}`, /`providers` is not an array/],
      [`[1]`, /providers\[0\] is not an object/],
      [
        `[{ kind: 'filter' }]`,
        /providers\[0\]\.kind is filter, and not one of context, operation, service, middleware/,
      ],
      [`[{ kind: 'context', order: 'x', extend() {} }]`, /providers\[0\]\.order is not a number/],
      [`[{ kind: 'service', build() {} }]`, /providers\[0\]\.type is no text/],
      [`[{ kind: 'service', type: 'x', build() {}, vend: 1 }]`, /providers\[0\]\.vend is not a function/],
      [`[{ kind: 'service', type: 'x', build() {}, release() {} }]`, /has release\(\), but no vend\(\)/],
      [`[{ kind: 'middleware' }]`, /a middleware provider without wrap\(\)/],
      [`[{ kind: 'middleware', wrap() {} }]`, /a middleware lost the func of operation run/],
      [
        `[{ kind: 'operation', install: (table) => table.set('getSwager', () => 1) }]`,
        /no operation getSwager; there are/,
      ],
      [
        `[{ kind: 'operation', install: (table) => table.set('dispatcherFor', () => 1) }]`,
        /gave no func for operation run/,
      ],
    ];
    for (const [providers, message] of malformed) {
      it(`refuses ${providers}`, async () => {
        assert.match((await refusal(`exports.run = () => 1; exports.providers = ${providers}`)).message, message);
      });
    }
  });

  describe('in a node worker', () => {
    const workers = new RuntimeStarter(createNodeRuntime);
    afterEach(() => workers.endAll());

    it('are set up in the same way', async () => {
      const source = `import { withHeaders } from 'funcatron';
        export const providers = [
          { kind: 'middleware', wrap: (func) => async (event, context) => withHeaders(await func(event, context), { 'x-a': 'b' }) },
          { kind: 'context', extend: () => ({ who: 'me' }) },
        ];
        export const run = (event, { who }) => [who];`;
      const worker = await workers.start({ 'index.js': source }, { entry: 'index.js' });
      const reply = await worker.call();
      assert.deepEqual([reply.json(), reply.headers['x-a']], [['me'], 'b']);
    });
  });

  describe('at pack', () => {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-providers-'));
    after(() => rmSync(folder, { recursive: true, force: true }));

    async function refusal(install: string): Promise<FuncatronError> {
      writeFileSync(
        join(folder, 'index.js'),
        `export const run = () => 1;\nexport const providers = [{ kind: 'operation', install(table) { ${install} } }];\n`,
      );
      writeFileSync(
        join(folder, 'funcatron.json'),
        JSON.stringify({
          openapi: '3.1.0',
          info: { title: 'p', version: '1' },
          'x-funcatron': { entry: 'index.js' },
          paths: { '/run': { get: { operationId: 'run', responses: { 200: { description: 'fine' } } } } },
        }),
      );
      const error: unknown = await packBundle(folder).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.ok(error instanceof FuncatronError);
      assert.equal(error.code, 'INVALID_BUNDLE');
      return error;
    }

    it('refuses a provider that throws, with its error and its place', async () => {
      const { message, data } = await refusal(`throw new Error('no such branch')`);
      assert.match(message, /its providers failed: Error: no such branch/);
      const [problem] = data.problems ?? [];
      assert.deepEqual([problem?.file, problem?.line], ['index.js', 2]);
    });

    it('refuses a document of getSwagger that is none, as it refuses one in the folder', async () => {
      assert.match((await refusal(`table.set('getSwagger', () => 7)`)).message, /getSwagger gave no document/);
      assert.match((await refusal(`table.set('getSwagger', () => ({ a: 1 }))`)).message, /./);
    });

    it('refuses an operation without a func where funcs are exports', async () => {
      const install = `table.set('getSwagger', (document) => ({ ...document, paths: { '/x': { get: { ...document.paths['/run'].get, operationId: 'other' } } } }))`;
      assert.match(JSON.stringify((await refusal(install)).data), /other/);
    });
  });
});
