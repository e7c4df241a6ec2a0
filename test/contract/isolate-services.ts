import assert from 'node:assert/strict';
import { until } from '../helpers/until.ts';
import { type WorkerStarter } from './isolate-harness.ts';

/** Log lines and operations: what a guest asks of its runner. */
export function describeServices(workers: WorkerStarter): void {
  describe('log', () => {
    it('passes console and context.log on, with their call', async () => {
      const worker = await workers.start(
        `exports.run = (event, { log }) => { console.warn('%s and %d', 'text', 7, { a: [1, new Map([['k', { deep: { er: {} } }]])] }); log.info('hello', { n: 1, error: new Error('e') }); }`,
      );
      await worker.call();
      const [first, second] = worker.logs;
      assert.deepEqual([first?.level, first?.message], ['warn', "text and 7 { a: [1, Map(1) { 'k' => [Object] }] }"]);
      assert.deepEqual([second?.level, second?.message, second?.operationId], ['info', 'hello', 'run']);
      assert.equal(second?.fields?.['n'], 1);
      assert.match(JSON.stringify(second?.fields), /"message":"e"/);
      assert.match(first?.callId ?? '', /^[0-9a-f-]{36}$/);
    });

    it('drops and counts lines of a flood, cuts long ones, and goes on answering', async () => {
      const worker = await workers.start(
        `exports.run = () => { for (let i = 0; i < 100000; i++) console.log('x'.repeat(20000)); return 1; }; exports.later = () => console.log('after')`,
        {},
        ['run', 'later'],
      );
      assert.equal((await worker.call()).json(), 1);
      // There is room for lines again when some time has passed.
      await until('a line after the flood', async () => {
        await worker.call({ operation: 1 });
        return worker.logs.some(({ message }) => message === 'after');
      });
      assert.ok(worker.logs.length <= 4_000, `${worker.logs.length} lines`);
      assert.ok(worker.logs.every(({ message }) => message.length <= 8192));
      const dropped = worker.logs.reduce((sum, line) => sum + (line.dropped ?? 0), 0);
      assert.ok(dropped > 90_000, `${dropped} dropped`);
    });

    it('makes no line below the level of the bundle, and does not even read it', async () => {
      const worker = await workers.start(
        `exports.run = (event, { log }) => {
          let reads = 0;
          const fields = { get a() { return ++reads; } };
          console.log(fields), log.info('low', fields), log.debug(fields), log.warn('high', fields);
          return reads;
        }`,
        { logLevel: 'warn' },
      );
      const reads = (await worker.call()).json();
      assert.deepEqual([worker.logs.map(({ message }) => message), reads], [['high'], 1]);
    });

    it('describes rejections and errors that no call waits for', async () => {
      const worker = await workers.start(`exports.run = () => {
        setTimeout(() => { Promise.reject(new TypeError('forgotten')) }, 1);
        setTimeout(() => { Promise.reject({ get message() { throw 1 }, get stack() { throw 2 } }) }, 1);
        setTimeout(() => { throw new RangeError('late') }, 1);
        queueMicrotask(() => { throw new Error('soon') });
      }`);
      await worker.call();
      await until('all four', () => worker.logs.length === 4);
      const messages = worker.logs.map(({ message }) => message).sort();
      assert.match(messages[0] ?? '', /a microtask: Error: soon/);
      assert.match(messages[1] ?? '', /a promise that nothing handles: Error: something was thrown/);
      assert.match(messages[2] ?? '', /a promise that nothing handles: TypeError: forgotten/);
      assert.match(messages[3] ?? '', /a timer: RangeError: late/);
      assert.ok(worker.logs.some(({ fields }) => String(fields?.['stack']).includes('bundle.js:')));
    });

    it('describes every one of several rejections of one entry', async () => {
      const worker = await workers.start(`exports.run = () => {
        for (const name of ['one', 'two', 'three']) Promise.reject(new Error(name));
        const later = Promise.reject(new Error('handled'));
        queueMicrotask(() => later.catch(() => undefined));
      }`);
      await worker.call();
      await until('all three', () => worker.logs.length === 3);
      await worker.worker.ping();
      const names = worker.logs.map(({ message }) => message.split(' ').at(-1));
      assert.deepEqual(names, ['one', 'two', 'three']);
    });

    it('survives values that fight back', async () => {
      const worker = await workers.start(`exports.run = () => {
        const evil = new Proxy({}, { get() { throw 1 }, ownKeys() { throw 2 }, getPrototypeOf() { throw 3 } });
        console.log(evil, { get a() { throw 4 } }, { [Symbol.for('nodejs.util.inspect.custom')]() { throw 5 } });
        throw { get message() { throw evil } };
      }`);
      const reply = await worker.call();
      assert.deepEqual([reply.status, worker.logs.length], [500, 2]);
    });
  });

  describe('operations', () => {
    it('performs fetch through the runner', async () => {
      const worker = await workers.start(`exports.run = async () => {
        const response = await fetch('http://example.test/a', { method: 'post', headers: { 'X-A': 'b' }, body: new URLSearchParams({ q: 'ü' }) });
        return [response.status, response.ok, response.url, [...response.headers], await response.json(), response.bodyUsed];
      }`);
      worker.perform = ({ args, bytes }) => {
        const headers = [...(args['headers'] as unknown[]), ['set-cookie', 'a'], ['set-cookie', 'b']];
        const body = Buffer.from(JSON.stringify({ method: args['method'], body: bytes.toString() }));
        return Promise.resolve({
          result: { url: args['url'], status: 201, statusText: 'Created', headers, redirected: false },
          bytes: body,
        });
      };
      assert.deepEqual((await worker.call()).json(), [
        201,
        true,
        'http://example.test/a',
        [
          ['content-type', 'application/x-www-form-urlencoded;charset=UTF-8'],
          ['set-cookie', 'a'],
          ['set-cookie', 'b'],
          ['x-a', 'b'],
        ],
        { method: 'POST', body: 'q=%C3%BC' },
        true,
      ]);
    });

    it('gives the guest an error with the code of what went wrong', async () => {
      const worker = await workers.start(
        `exports.run = async (event, { services }) => {
          const errors = [];
          try { await fetch('http://x.test/') } catch (error) { errors.push(error instanceof TypeError, error.cause.code) }
          try { await services.kv.get('k') } catch (error) { errors.push(error.code, error.message) }
          return errors;
        }`,
        { services: { kv: { type: 'kv' } } },
      );
      worker.perform = () => Promise.reject(Object.assign(new Error('no way'), { code: 'ECONNREFUSED' }));
      assert.deepEqual((await worker.call()).json(), [true, 'ECONNREFUSED', 'ECONNREFUSED', 'no way']);
    });

    for (const [state, atOnce] of [
      ['kept', 64],
      ['fresh', 16],
    ] as const) {
      it(`performs 1000 operations asked for at once, ${atOnce} at a time, with state: ${state}`, async function () {
        const worker = await workers.start(
          `exports.run = async (event, { services: { kv } }) => {
            const values = await Promise.all(Array.from({ length: 1000 }, (_, at) => kv.get('k' + at)));
            return values.every((value, at) => value === at);
          }`,
          { services: { kv: { type: 'kv' } }, state },
        );
        let underWay = 0;
        let most = 0;
        worker.perform = async ({ args }) => {
          most = Math.max(most, ++underWay);
          await new Promise(setImmediate);
          underWay--;
          return { result: { value: String(args['key']).slice(1) } };
        };
        assert.equal((await worker.call()).json(), true);
        assert.ok(most > 1 && most <= atOnce, `${most} at once`);
      });
    }

    it('keeps values of context.services.kv as JSON', async () => {
      const worker = await workers.start(
        `exports.run = async (event, { services: { kv } }) => {
          await kv.set('a', { b: [1] }, { ttlMs: 1500 });
          return [await kv.get('a'), await kv.get('none'), await kv.incr('n', 2), await kv.delete('a')];
        }`,
        { services: { kv: { type: 'kv' } } },
      );
      const values = new Map<unknown, unknown>();
      worker.perform = ({ name, args }) => {
        if (name === 'kv.set') {
          values.set(args['key'], args['value']);
          return Promise.resolve({ result: {} });
        }
        if (name === 'kv.get') return Promise.resolve({ result: { value: values.get(args['key']) } });
        return Promise.resolve({
          result: name === 'kv.increment' ? { value: args['by'] } : { deleted: values.delete(args['key']) },
        });
      };
      assert.deepEqual((await worker.call()).json(), [{ b: [1] }, null, 2, true]);
      assert.deepEqual(worker.operations[0]?.args, { service: 'kv', key: 'a', value: '{"b":[1]}', ttlMs: 1500 });
    });

    it('aborts an operation that the guest gave up, and all of them when the worker goes', async () => {
      const worker = await workers.start(
        `exports.run = async () => { try { await fetch('http://x.test/', { signal: AbortSignal.timeout(20) }) } catch (error) { return error.name } };
         exports.hang = () => fetch('http://x.test/')`,
        {},
        ['run', 'hang'],
      );
      const signals: AbortSignal[] = [];
      worker.perform = (_request, signal) => {
        signals.push(signal);
        return new Promise(() => undefined);
      };
      assert.equal((await worker.call()).body.toString(), 'TimeoutError');
      await until('the first is aborted', () => signals[0]?.aborted === true);
      worker.callAll([{ operation: 1 }]).catch(() => undefined);
      await until('the second has begun', () => signals.length === 2);
      worker.worker.kill();
      await worker.exited;
      assert.equal(signals[1]?.aborted, true);
    });

    it('carries 8 MiB back and refuses to send more than that', async () => {
      const worker = await workers.start(`exports.run = async () => {
        const bytes = await (await fetch('http://x.test/')).bytes();
        try { await fetch('http://x.test/', { method: 'PUT', body: new Uint8Array(8 * 1024 * 1024 + 1) }) } catch (error) {
          return [bytes.length, bytes[5_000_000], error.cause?.code ?? error.code];
        }
      }`);
      const bytes = Buffer.alloc(8 * 1024 * 1024, 7);
      const result = { url: 'http://x.test/', status: 200, statusText: '', headers: [], redirected: false };
      worker.perform = () => Promise.resolve({ result, bytes });
      assert.deepEqual((await worker.call()).json(), [8 * 1024 * 1024, 7, 'PAYLOAD_TOO_LARGE']);
    });
  });
}
