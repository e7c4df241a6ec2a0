import assert from 'node:assert/strict';
import { MAX_REALMS } from '../../runner/isolate/bridge.ts';
import { until } from '../helpers/until.ts';
import type { WorkerStarter } from './isolate-harness.ts';

const FRESH = { state: 'fresh' } as const;

/** `x-funcatron.state: fresh`: nothing of one call is there for the next. For isolates of `js` only. */
export function describeFresh(workers: WorkerStarter): void {
  describe('state: fresh', () => {
    it('gives every call a module, globals, prototypes and context.state as new', async () => {
      const source = `
        let calls = 0;
        exports.init = (context) => { context.state.inits = (context.state.inits ?? 0) + 1 };
        exports.run = (event, context) => {
          const seen = [++calls, context.state.inits, globalThis.leak, [].leak, ({}).leak, context.state.leak, JSON.leak,
            Promise.prototype.leak, (() => {}).leak, event.leak, context.leak, console.leak, exports.leak, Symbol.for('x').leak];
          for (const target of [globalThis, Array.prototype, Object.prototype, context.state, JSON, Promise.prototype,
            Function.prototype, Object.getPrototypeOf(event), Object.getPrototypeOf(context), console, exports, Symbol.prototype]) target.leak = 1;
          Array.prototype.map = JSON.stringify = Promise.prototype.then = undefined;
          return seen.join();
        }`;
      const worker = await workers.start(source, FRESH);
      const expected = `1,1${','.repeat(12)}`;
      for (let n = 0; n < 5; n++) assert.equal((await worker.call()).body.toString(), expected);
      const batch = await worker.callAll(Array.from({ length: 20 }, () => ({})));
      assert.deepEqual(new Set(batch.map(({ body }) => body.toString())), new Set([expected]));
    });

    it('keeps all of it where state is kept', async () => {
      const worker = await workers.start('let n = 0; exports.run = () => ++n', { state: 'kept' });
      await worker.call();
      assert.equal((await worker.call()).json(), 2);
    });

    it('gives calls at once a realm each', async () => {
      const worker = await workers.start(
        `globalThis.n = 0; exports.run = (event, { signal }) => { const at = ++n; return new Promise((resolve) => setTimeout(() => resolve([at, n]), 20)) }`,
        FRESH,
      );
      const replies = await worker.callAll(Array.from({ length: 10 }, () => ({})));
      assert.deepEqual(new Set(replies.map((reply) => reply.body.toString())), new Set(['[1,1]']));
    });

    it('ends timers, operations and microtasks of a call with its answer', async () => {
      const worker = await workers.start(
        `exports.run = (event) => {
          if (event.body === 'look') return 'quiet';
          setInterval(() => console.log('tick'), 1);
          (async () => { for (let n = 0; n < 50; n++) await new Promise((resolve) => setTimeout(resolve, 1)); console.log('late') })();
          fetch('http://x.test/').then(() => console.log('fetched'), () => console.log('failed'));
          return new Promise((resolve) => setTimeout(resolve, 10, 'done'));
        }`,
        FRESH,
      );
      let isAborted = false;
      worker.perform = (_request, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            isAborted = true;
            reject(new Error('aborted'));
          });
        });
      assert.equal((await worker.call()).body.toString(), 'done');
      await until('the fetch of the call is given up', () => isAborted);
      assert.ok(worker.logs.some(({ message }) => message === 'tick'));
      const { length } = worker.logs;
      // Timers of 1 ms would have written many lines while this one ran.
      const other = await workers.start('exports.run = () => new Promise((resolve) => setTimeout(resolve, 60))');
      await other.call();
      await worker.call({ body: '"look"' });
      assert.equal(worker.logs.length, length);
    });

    it('gives results of operations and aborts to the realm they belong to', async () => {
      const worker = await workers.start(
        `exports.run = async (event, { signal }) => {
          signal.addEventListener('abort', () => { globalThis.aborted = true });
          const response = await fetch('http://x.test/' + event.body);
          return [event.body, await response.text(), globalThis.aborted === true];
        }`,
        FRESH,
      );
      worker.perform = async ({ args }) => {
        const url = String(args['url']);
        const n = Number(url.split('/').at(-1));
        await new Promise((resolve) => setTimeout(resolve, 10 - n));
        return {
          result: { url, status: 200, statusText: '', headers: [], redirected: false },
          bytes: Buffer.from(String(n)),
        };
      };
      const replies = await worker.callAll(Array.from({ length: 10 }, (_item, n) => ({ body: String(n) })));
      assert.deepEqual(
        replies.map((reply) => reply.json()),
        Array.from({ length: 10 }, (_item, n) => [n, String(n), false]),
      );
    });

    it('describes what nobody handles in the realm it came from', async () => {
      const worker = await workers.start(
        `exports.run = (event) => { Promise.reject(new Error('stray ' + event.body)); return 1 }`,
        FRESH,
      );
      await worker.callAll([{ body: '1' }, { body: '2' }]);
      await until('both are logged', () => worker.logs.length === 2);
      assert.deepEqual(
        worker.logs.map(({ message }) => /stray \d/.exec(message)?.[0]),
        ['stray 1', 'stray 2'],
      );
    });

    it('draws other random numbers in every realm', async () => {
      const worker = await workers.start('exports.run = () => crypto.randomUUID() + Math.random()', FRESH);
      const replies = await worker.callAll(Array.from({ length: 20 }, () => ({})));
      assert.equal(new Set(replies.map(({ body }) => body.toString())).size, 20);
    });

    it('waits for an init that takes its time, in every realm', async () => {
      const worker = await workers.start(
        `exports.init = async ({ state }) => { await new Promise((resolve) => setTimeout(resolve, 5)); state.ready = true };
         exports.run = (event, { state }) => state.ready`,
        FRESH,
      );
      const replies = await worker.callAll(Array.from({ length: 8 }, () => ({})));
      assert.deepEqual(new Set(replies.map((reply) => reply.json())), new Set([true]));
    });

    it('answers FUNC_ERROR to calls whose realm does not come up, and runs the next', async () => {
      const worker = await workers.start(
        `exports.init = async () => { const { status } = await fetch('http://x.test/'); if (status !== 200) throw new TypeError('no luck') };
         exports.run = () => 'up'`,
        FRESH,
        undefined,
        (harness) => {
          let asked = 0;
          // The first realm and the one made ahead of the second call come up; the next ones do not.
          harness.perform = () => {
            const status = ++asked > 2 && asked < 6 ? 500 : 200;
            return Promise.resolve({ result: { url: '', status, statusText: '', headers: [], redirected: false } });
          };
        },
      );
      const answers: string[] = [];
      for (let n = 0; n < 8; n++) answers.push((await worker.call()).body.toString());
      assert.deepEqual([answers[0], answers[1], answers.at(-1)], ['up', 'up', 'up']);
      assert.deepEqual(
        [...new Set(answers.filter((answer) => answer !== 'up'))].map((answer) => JSON.parse(answer) as unknown),
        [{ code: 'FUNC_ERROR', message: 'the context of the call failed in init (TypeError)' }],
      );
      assert.ok(worker.logs.some(({ message }) => /fresh context failed in init: TypeError: no luck/.test(message)));
    });

    it('answers TIMEOUT to a call that waited for a realm until its deadline', async () => {
      const worker = await workers.start(
        `exports.run = (event) => event.body === 1 ? 'in' : new Promise(() => {})`,
        FRESH,
      );
      const stuck = worker.callAll(Array.from({ length: MAX_REALMS }, () => ({ body: '0' })));
      stuck.catch(() => undefined);
      const reply = await worker.call({ body: '1', deadlineMs: 300 });
      assert.equal(reply.status, 504);
    });

    it('lets go of the memory of realms, one worker after the other', async () => {
      for (let nth = 0; nth < 3; nth++) {
        const worker = await workers.start(
          'globalThis.ballast = new Array(1e4).fill("x".repeat(10)); exports.run = () => 1',
          FRESH,
        );
        for (let round = 0; round < 15; round++) {
          const replies = await worker.callAll(Array.from({ length: 32 }, () => ({})));
          assert.ok(replies.every(({ status }) => status === 200));
        }
        await workers.endAll();
      }
    }).timeout(60_000);
  });
}
