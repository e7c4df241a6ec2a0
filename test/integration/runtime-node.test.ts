import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Permissions } from '../../core/bundle/manifest.ts';
import { createNodeRuntime } from '../../runner/runtimes/node.ts';
import { findProgramWalls } from '../../runner/runtimes/program-walls.ts';
import { type Files, RuntimeStarter } from '../contract/runtime-harness.ts';
import { processesWith } from '../helpers/programs.ts';
import { until } from '../helpers/until.ts';

const NONE: Permissions = { net: false, fs: { read: [], write: [] }, child: false };

describe('runner/runtimes/node', () => {
  const workers = new RuntimeStarter(createNodeRuntime);
  afterEach(() => workers.endAll());

  const start = (source: string, permissions = NONE, files: Files = {}): ReturnType<RuntimeStarter['start']> =>
    workers.start({ 'index.ts': source, ...files }, { entry: 'index.ts', permissions });

  describe('modules', () => {
    it('loads TypeScript with packages, files beside it, and the sdk that nobody installed', async () => {
      const worker = await start(
        `import { readFileSync } from 'node:fs';
         import { twice } from 'double';
         import { reply, type Func } from 'funcatron';
         import { name } from './lib/name.ts';
         export const run: Func = (event: { body: number }) =>
           reply(202, [twice(event.body), name, readFileSync(new URL('data.txt', import.meta.url), 'utf8')]);`,
        NONE,
        {
          'node_modules/double/package.json': '{"name":"double","main":"main.cjs"}',
          'node_modules/double/main.cjs': 'exports.twice = (n) => n * 2;',
          'lib/name.ts': 'export const name: string = "lib";',
          'data.txt': 'data',
        },
      );
      const reply = await worker.call({ body: '21' });
      assert.deepEqual([reply.status, reply.json()], [202, [42, 'lib', 'data']]);
    });

    it('names the author’s file and line where a module cannot be loaded, and where a func throws', async () => {
      await assert.rejects(
        start('export const run = () => 1;\nenum A { B }'),
        /cannot be loaded: SyntaxError: .*\(index\.ts:2:1\)/,
      );
      await assert.rejects(start('export const run = () => 1;\nimport "nowhere";'), /Cannot find package 'nowhere'/);
      const worker = await start('\nexport const run = () => { throw new RangeError("no") };');
      assert.equal((await worker.call()).status, 500);
      assert.match(String(worker.logs[0]?.fields?.['stack']), /at run \(index\.ts:2:\d+\)/);
    });

    it('has an empty environment, the command line of an ordinary module, and Node’s own signals', async () => {
      const worker = await start(`import { setTimeout } from 'node:timers/promises';
        export const run = async (event, { signal }) => {
          const wait = await setTimeout(60_000, 1, { signal }).catch((error) => error.name);
          return [Object.keys(process.env), process.argv.length, wait];
        };`);
      assert.deepEqual((await worker.call({ deadlineMs: 50 })).json(), [[], 2, 'AbortError']);
    });
  });

  it('has the providers, services and secrets of js bundles, and asks its runner for what these do', async () => {
    const worker = await workers.start(
      {
        'index.ts': `import { type Func, type Provider, withHeaders } from 'funcatron';
          export const providers: Provider[] = [
            { kind: 'middleware', wrap: (func) => async (event, context) => withHeaders(await func(event, context), { 'x-a': 'b' }) },
          ];
          export const run: Func = async (event, { services, secrets }) => [await services.kv.incr('n', 2), secrets.KEY];`,
      },
      { entry: 'index.ts', services: { kv: { type: 'kv' } }, secrets: { KEY: 'of the operator' } },
    );
    worker.perform = ({ name, args }) =>
      Promise.resolve({ result: { value: name === 'kv.increment' ? args['by'] : 0 } });
    const reply = await worker.call();
    assert.deepEqual([reply.headers['x-a'], reply.json()], ['b', [2, 'of the operator']]);
  });

  describe('permissions', () => {
    const PROBE = `import { readFileSync, writeFileSync } from 'node:fs';
      import { execFileSync } from 'node:child_process';
      import { Worker } from 'node:worker_threads';
      const codeOf = async (action) => { try { await action(); return 'done' } catch (error) { return error.code ?? error.cause?.code ?? error.name } };
      export const run = async ({ body }) => ({
        read: await codeOf(() => readFileSync(body.read)),
        write: await codeOf(() => writeFileSync(body.write, 'x')),
        own: await codeOf(() => writeFileSync('index.ts', 'x')),
        net: await codeOf(() => fetch(body.url)),
        child: await codeOf(() => execFileSync('/bin/true')),
        worker: await codeOf(() => new Worker('', { eval: true })),
      });`;
    const server = createServer((_request, response) => response.end('ok'));
    let url = '';
    before(async () => {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    });
    after(() => {
      server.closeAllConnections();
      server.close();
    });

    it('denies what is not declared: network, files but its own, processes', async () => {
      const worker = await start(PROBE);
      const body = JSON.stringify({ read: '/etc/hostname', write: '/tmp/funcatron-not-there', url });
      const denied = 'ERR_ACCESS_DENIED';
      const outcome = { read: denied, write: denied, own: denied, net: denied, child: denied, worker: denied };
      assert.deepEqual((await worker.call({ body })).json(), outcome);
    });

    it('gives what is declared, and no more', async () => {
      const fs = { read: ['/etc/hostname'], write: ['/dev/null'] };
      const worker = await start(PROBE, { net: true, fs, child: true });
      const body = JSON.stringify({ read: '/etc/hostname', write: '/dev/null', url });
      const { own, worker: thread, ...given } = (await worker.call({ body })).json() as Record<string, string>;
      assert.deepEqual(given, { read: 'done', write: 'done', net: 'done', child: 'done' });
      assert.deepEqual([own, thread], ['ERR_ACCESS_DENIED', 'ERR_ACCESS_DENIED']);
    });
  });

  describe('what programs do', () => {
    it('makes log lines of what is written to stdout and stderr', async () => {
      const worker = await start(`import { writeSync } from 'node:fs';
        export const run = () => {
          process.stdout.write('\\0\\x01rubbish é\\n{"id":1}\\nno end');
          writeSync(2, 'on stderr\\n');
          return 1;
        };`);
      assert.equal((await worker.call()).json(), 1);
      await worker.worker.close();
      const lines = worker.logs.map(({ level, message }) => `${level} ${message}`).sort();
      assert.deepEqual(lines, ['info \0\u0001rubbish é', 'info no end', 'info {"id":1}', 'warn on stderr']);
    });

    it('answers although stdout is closed', async () => {
      const worker = await start(`import { closeSync } from 'node:fs';
        export const run = () => { closeSync(1); console.log('still'); return 1; };`);
      assert.equal((await worker.call()).json(), 1);
    });

    for (const [what, source] of [
      [
        'closes its channel',
        `import { closeSync } from 'node:fs'; export const run = () => { closeSync(3); return 1 };`,
      ],
      [
        'writes rubbish to its channel',
        `import { writeSync } from 'node:fs'; export const run = () => { writeSync(3, 'x'.repeat(99)); return new Promise(() => {}) };`,
      ],
      ['exits', 'export const run = () => process.exit(0);'],
      ['aborts', 'export const run = () => process.abort();'],
      ['kills itself', `export const run = () => process.kill(process.pid, 'SIGKILL');`],
      [
        'lets an error escape',
        `export const run = () => new Promise(() => setTimeout(() => { throw new RangeError('late') }));`,
      ],
    ] as const) {
      it(`is gone when a func ${what}`, async () => {
        const worker = await start(source);
        await assert.rejects(worker.call(), /the worker is gone: crashed/);
        assert.equal((await worker.exited).reason, 'crashed');
        if (what === 'lets an error escape') {
          assert.ok(worker.logs.some(({ message }) => /the process, which ends: RangeError: late/.test(message)));
        }
      });
    }

    it('logs a rejection that nothing handles, and goes on', async () => {
      const worker = await start('export const run = () => { Promise.reject(new TypeError("forgotten")); return 1 };');
      assert.equal((await worker.call()).json(), 1);
      await until('it is logged', () => worker.logs.some(({ message }) => /TypeError: forgotten/.test(message)));
      assert.equal((await worker.call()).json(), 1);
    });

    for (const [what, detached] of [
      ['the processes it has started', false],
      ['those that left its session, where there are process namespaces', true],
    ] as const) {
      it(`takes with it ${what}`, async function () {
        if (detached && !(await findProgramWalls()).catchesDaemons) this.skip();
        const marker = `marker-${randomBytes(8).toString('hex')}`;
        const worker = await start(
          `import { spawn } from 'node:child_process';
           const options = { stdio: 'inherit', detached: ${detached} };
           export const run = () => void spawn('/bin/sh', ['-c', 'sleep 600; exit', '${marker}'], options);`,
          { ...NONE, child: true },
        );
        await worker.call();
        await until('its child runs', () => processesWith(marker).length > 0);
        worker.worker.kill();
        await worker.exited;
        await until('its child is gone', () => processesWith(marker).length === 0);
      });
    }
  });
});
