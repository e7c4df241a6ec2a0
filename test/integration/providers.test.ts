import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import { FuncatronError } from '../../core/errors.ts';
import { openProcessIsolate, WorkerStarter } from '../contract/isolate-harness.ts';
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

    const malformed: readonly (readonly [string, RegExp])[] = [
      [`{}`, /`providers` is not an array/],
      [`[1]`, /providers\[0\] is not an object/],
      [
        `[{ kind: 'filter' }]`,
        /providers\[0\]\.kind is filter, and not one of context, operation, service, middleware/,
      ],
      [`[{ kind: 'context', order: 'x', extend() {} }]`, /providers\[0\]\.order is not a number/],
      [`[{ kind: 'service', build() {} }]`, /providers\[0\]\.type is no text/],
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
