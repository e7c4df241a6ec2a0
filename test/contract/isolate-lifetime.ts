import assert from 'node:assert/strict';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { specOf, WorkerHarness, type WorkerStarter } from './isolate-harness.ts';

/** How workers start, and all the ways they end. */
export function describeLifetime(workers: WorkerStarter, kindOf: () => IsolateKind): void {
  describe('start', () => {
    const refused = async (source: string, pattern: RegExp, overrides = {}): Promise<void> => {
      const harness = new WorkerHarness();
      await assert.rejects(
        kindOf().start(specOf(source, overrides), harness.events),
        (error: { code: string; message: string }) => {
          assert.equal(error.code, 'DEPLOY_FAILED');
          assert.match(error.message, pattern);
          return true;
        },
      );
    };

    it('runs init before the first call, and gives every call the same state, config and services', async () => {
      const worker = await workers.start(
        `exports.init = async (context) => { await null; context.state.n = 40; };
         exports.run = (event, { state, config, services, bundle, revision }) => { state.n++; return [state.n, config.a.b, Object.isFrozen(config.a), typeof services.kv.get, bundle, revision] };`,
        { config: { a: { b: 1 } }, services: { kv: { type: 'kv' } } },
      );
      await worker.call();
      assert.deepEqual((await worker.call()).json(), [42, 1, true, 'function', 'test', '0123456789ab']);
    });

    it('fails with the func’s own error when init throws', async () => {
      await refused(
        'exports.run = () => 1; exports.init = async () => { throw new RangeError("no database") }',
        /init: RangeError: no database \(bundle\.js:1:\d+\)/,
      );
    });
    it('fails with the position when the bundle throws or does not parse', async () => {
      await refused('\n\nnull.x; exports.run = () => 1', /TypeError: .* \(bundle\.js:3:\d+\)/);
      await refused('exports.run = () => 1;\nlet a = ;', /SyntaxError: .* \(bundle\.js:2:\d+\)/);
    });
    it('names the handler that is not exported', async () => {
      await refused('exports.other = 1', /does not export run/);
    });
    it('refuses a bundle that requires at run time', async () => {
      await refused('require("node:fs"); exports.run = () => 1', /cannot require "node:fs"/);
    });
    it('refuses import(), however it is spelt, and leaves the word in texts alone', async () => {
      for (const text of [
        'import("x")',
        'import/**/("x")',
        'import//\n("x")',
        'import\n<!-- c\n("x")',
        'import.meta.url',
      ]) {
        await refused(`exports.run = () => ${text}`, /import/i);
      }
      const worker = await workers.start('exports.run = () => "import(x)" // import("x")\n');
      assert.equal((await worker.call()).body.toString(), 'import(x)');
    });
    it('fails when it takes longer than startTimeoutMs, and leaves no process', async () => {
      await refused('for (;;); exports.run = 1', /longer than 700 ms/, { startTimeoutMs: 700 });
      await refused('exports.run = () => 1; exports.init = () => new Promise(() => {})', /longer than 700 ms/, {
        startTimeoutMs: 700,
      });
    });
  });

  describe('end', () => {
    it('runs destroy on close, once, and says so', async () => {
      const worker = await workers.start(
        'exports.run = () => 1; exports.destroy = async () => { await null; console.log("bye") }',
      );
      await Promise.all([worker.worker.close(), worker.worker.close()]);
      assert.equal((await worker.exited).reason, 'closed');
      assert.deepEqual(
        worker.logs.map(({ message }) => message),
        ['bye'],
      );
      await assert.rejects(worker.worker.ping());
    });

    it('kills on close what does not end by itself', async () => {
      const worker = await workers.start('exports.run = () => 1; exports.destroy = () => { for (;;); }');
      await worker.worker.close();
      assert.equal((await worker.exited).reason, 'closed');
    });

    for (const [what, loop] of [
      ['a loop', 'for (;;);'],
      ['a loop of microtasks', 'return (async () => { for (;;) await 0; })();'],
      ['a loop that swallows', 'for (;;) { try { for (;;); } finally { continue } }'],
      ['a regular expression', '/^(a+)+$/.test("a".repeat(60) + "b");'],
    ]) {
      it(`kills ${what}`, async () => {
        const worker = await workers.start(`exports.run = () => { ${loop} }`);
        worker.callAll([{}]).catch(() => undefined);
        // One that comes with the call is answered before the func has begun, and then the next one is not.
        const ping = assert.rejects(async () => {
          for (;;) await worker.worker.ping();
        });
        worker.worker.kill();
        assert.equal((await worker.exited).reason, 'killed');
        await ping;
      });
    }

    for (const [what, bomb] of [
      ['objects', 'const all = []; for (;;) all.push({ a: [1, 2, 3] });'],
      ['a Map', 'const all = new Map(); for (let i = 0; ; i++) all.set(i, i);'],
      ['an array', 'new Array(3e8).fill(1.5);'],
      ['strings', 'let all = []; for (let i = 0; ; i++) all.push(("x" + i).repeat(1000).toUpperCase());'],
    ]) {
      it(`outlives a worker that runs out of memory: ${what}`, async () => {
        const worker = await workers.start(`exports.run = () => { ${bomb} }`);
        worker.callAll([{}]).catch(() => undefined);
        assert.equal((await worker.exited).reason, 'memory');
      }).timeout(60_000);
    }

    it('refuses ArrayBuffers beyond the budget, or ends', async () => {
      const worker = await workers.start(
        'exports.run = () => { const all = []; try { for (;;) all.push(new Uint8Array(16 * 2 ** 20).fill(1)) } catch (error) { const count = all.length; all.length = 0; return [error.name, count] } }',
      );
      const outcome = await Promise.race([worker.call().then((reply) => reply.json()), worker.exited]);
      if (Array.isArray(outcome)) {
        assert.equal(outcome[0], 'RangeError');
        assert.ok(outcome[1] <= 20, `${outcome[1] * 16} MiB with memoryMb 64`);
      } else {
        assert.equal((outcome as { reason: string }).reason, 'memory');
      }
    }).timeout(60_000);

    it('answers or ends for a reply of 300 MB', async () => {
      const worker = await workers.start('exports.run = () => JSON.parse("[" + "1,".repeat(150e6) + "1]")');
      const outcome = await Promise.race([
        worker.call().then((reply) => (reply.json() as { code: string }).code),
        worker.exited.then(({ reason }) => reason),
      ]).catch(() => 'memory');
      assert.ok(['memory', 'RESPONSE_TOO_LARGE', 'FUNC_ERROR'].includes(outcome), outcome);
    }).timeout(60_000);

    it('refuses timers and operations beyond their bounds', async () => {
      const worker = await workers.start(`exports.run = async () => {
        const errors = [];
        try { for (;;) setTimeout(() => {}, 1e6) } catch (error) { errors.push(error.name) }
        const asked = Array.from({ length: 10_001 }, () => fetch('http://x.test/'));
        await Promise.any(asked.map((each) => each.catch((error) => errors.push((error.cause ?? error).code))));
        return errors.filter(Boolean);
      }`);
      worker.perform = () => new Promise(() => undefined);
      assert.deepEqual((await worker.call()).json(), ['RangeError', 'SERVICE_BUSY']);
      assert.equal(worker.operations.length, 64);
    });
  });
}
