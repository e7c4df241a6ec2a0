import assert from 'node:assert/strict';
import { CallFlag } from '../../core/wire/envelope.ts';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { until } from '../helpers/until.ts';
import { newIdBytes, specOf, WorkerHarness, WorkerStarter } from './isolate-harness.ts';

/** What every isolate promises to the runner and to the funcs in it. */
export function describeIsolate(name: string, create: () => IsolateKind): void {
  describe(`isolate contract: ${name}`, () => {
    let kind: IsolateKind;
    const workers = new WorkerStarter(() => kind);
    before(() => {
      kind = create();
    });
    afterEach(() => workers.endAll());

    describe('calls', () => {
      it('answers every call of a batch once, with the tag it came with', async () => {
        const worker = await workers.start('exports.run = (event) => event.body.n * 2');
        const calls = Array.from({ length: 32 }, (_item, n) => ({ body: JSON.stringify({ n }) }));
        const [first, second] = await Promise.all([worker.callAll(calls, 7), worker.callAll(calls, 8)]);
        assert.deepEqual(
          first?.map((reply) => reply.json()),
          calls.map((_call, n) => n * 2),
        );
        assert.deepEqual(new Set(first?.map(({ tag }) => tag)), new Set([7]));
        assert.deepEqual(new Set(second?.map(({ tag }) => tag)), new Set([8]));
        assert.ok(worker.frames.length < 10, `${worker.frames.length} frames for 64 replies`);
      });

      it('does not let one slow call hold its mates', async () => {
        const worker = await workers.start(
          `let open; exports.run = (event) => event.body.wait ? new Promise((resolve) => { open = resolve }) : (event.body.open && open('late'), 'now')`,
        );
        const slow = worker.callAll([{ body: '{"wait":true}' }, { body: '{}' }]);
        await until('the mate is answered', () => worker.frames.length === 1);
        await worker.call({ body: '{"open":true}' });
        const replies = await slow;
        assert.deepEqual(
          replies.map(({ body }) => body.toString()),
          ['late', 'now'],
        );
      });

      it('answers TIMEOUT without starting a call whose deadline has passed, by the frontend’s clock', async () => {
        const worker = await workers.start('let n = 0; exports.run = () => ++n');
        const reply = await worker.call({ deadlineMs: -1 });
        assert.deepEqual([reply.status, reply.isFailed], [504, true]);
        assert.equal((reply.json() as { code: string }).code, 'TIMEOUT');
        const [fast] = await worker.callAll([{ deadlineMs: 5_000 }], 1, -10_000);
        assert.equal(fast?.status, 504, 'this runner is 10 s behind the frontend');
        const [slow] = await worker.callAll([{ deadlineMs: -5_000 }], 1, 10_000);
        assert.equal(slow?.json(), 1, 'this runner is 10 s ahead of the frontend');
      });

      it('aborts context.signal with a TimeoutError at the deadline, and the call still answers', async () => {
        const worker = await workers.start(
          `exports.run = (event, { signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason.name)))`,
        );
        const reply = await worker.call({ deadlineMs: 30 });
        assert.equal(reply.body.toString(), 'TimeoutError');
      });

      it('aborts context.signal of cancelled calls and of no others', async () => {
        const worker = await workers.start(
          `exports.run = (event, { signal }) => event.body === 1 ? signal.aborted : new Promise((resolve) => { signal.onabort = () => resolve(signal.reason.name) })`,
        );
        const id = newIdBytes();
        const cancelled = worker.call({ id, body: '{}' });
        worker.worker.cancel(Buffer.concat([newIdBytes(), id]));
        assert.equal((await cancelled).body.toString(), 'AbortError');
        assert.equal((await worker.call({ body: '1' })).json(), false);
      });

      it('says how long a call waited and how long its func took', async () => {
        const worker = await workers.start('exports.run = () => new Promise((resolve) => setTimeout(resolve, 30))');
        const reply = await worker.call();
        assert.ok(reply.funcUs >= 25_000 && reply.funcUs < 15_000_000, `${reply.funcUs} µs`);
        assert.ok(reply.waitUs >= 0 && reply.waitUs < 15_000_000, `${reply.waitUs} µs`);
      });

      it('answers a ping while calls are pending', async () => {
        const worker = await workers.start('exports.run = () => new Promise(() => {})');
        worker.callAll([{}]).catch(() => undefined);
        await worker.worker.ping();
      });
    });

    describe('events', () => {
      it('gives the event as it was sent', async () => {
        const worker = await workers.start(`exports.run = (event, context) => ({
          ...event.toJSON(), contentType: event.contentType, key: event.idempotencyKey, callId: context.callId,
          remaining: context.remainingMs() > 0 && context.deadline > Date.now(),
        })`);
        const id = Buffer.from('0193a0b1c2d37e4f8a5b6c7d8e9fa0b1', 'hex');
        const headers = { 'content-type': 'application/json; charset=utf-8', 'idempotency-key': 'k1', 'x-a': 'ä' };
        const meta = {
          method: 'PUT',
          path: '/a/b',
          params: { id: 5 },
          query: { q: [1] },
          cookies: { c: 'd' },
          headers,
          time: 0,
        };
        const reply = await worker.call({ id, attempt: 2, body: '{"ü":[1]}', meta });
        assert.deepEqual(reply.json(), {
          id: '0193a0b1-c2d3-7e4f-8a5b-6c7d8e9fa0b1',
          callId: '0193a0b1-c2d3-7e4f-8a5b-6c7d8e9fa0b1',
          kind: 'call',
          trigger: 'http',
          time: '1970-01-01T00:00:00.000Z',
          attempt: 2,
          method: 'PUT',
          path: '/a/b',
          params: { id: 5 },
          query: { q: [1] },
          cookies: { c: 'd' },
          headers,
          body: { ü: [1] },
          contentType: 'application/json; charset=utf-8',
          key: 'k1',
          remaining: true,
        });
      });

      it('tells an event from a call', async () => {
        const worker = await workers.start('exports.run = (event) => [event.kind, event.trigger]');
        const reply = await worker.call({ flags: CallFlag.event, meta: { kind: 'queue' } });
        assert.deepEqual(reply.json(), ['event', 'queue']);
      });

      it('parses bodies by content type, and keeps their bytes', async () => {
        const worker = await workers.start(`exports.run = (event) => ({
          body: event.body instanceof Uint8Array ? ['bytes', ...event.body] : event.body, text: event.text(), bytes: [...event.bytes()],
        })`);
        const ask = async (
          contentType: string,
          body: string | Buffer,
          flags: number,
        ): Promise<Record<string, unknown>> => {
          const reply = await worker.call({ body, flags, meta: { headers: { 'content-type': contentType } } });
          return reply.json() as Record<string, unknown>;
        };
        assert.deepEqual((await ask('application/problem+json', '[1]', CallFlag.text))['body'], [1]);
        assert.deepEqual((await ask('text/plain', 'é\ufffd', CallFlag.text))['body'], 'é\ufffd');
        const form = await ask('application/x-www-form-urlencoded', 'a=1&b=x+y%21&a=2&__proto__=p', CallFlag.text);
        assert.deepEqual(form['body'], JSON.parse('{"a":["1","2"],"b":"x y!","__proto__":"p"}'));
        const raw = Buffer.from([0xff, 0x00, 0xc3]);
        const broken = await ask('text/plain', raw, CallFlag.text);
        assert.deepEqual([broken['bytes'], broken['body']], [[...raw], '\ufffd\0\ufffd']);
        assert.deepEqual((await ask('image/png', raw, 0))['body'], ['bytes', ...raw]);
        const bom = Buffer.from('\ufeff{}');
        assert.deepEqual((await ask('text/plain', bom, CallFlag.text))['bytes'], [...bom]);
      });

      it('gives a multipart body as an object of fields, files with their bytes', async () => {
        const worker = await workers.start(`exports.run = ({ body }) => ({
          title: body.title, tags: body.tag, file: [body.file.filename, body.file.contentType, ...body.file.bytes],
        })`);
        const part = (head: string, text: string): string =>
          `--b\r\nContent-Disposition: form-data; ${head}\r\n\r\n${text}\r\n`;
        const body = [
          part('name="title"', 'hé'),
          part('name="tag"', '1'),
          part('name="tag"', '2'),
          part('name="file"; filename="a.bin"\r\nContent-Type: image/x', '\r\n--x\u0001'),
          '--b--\r\n',
        ].join('');
        const headers = { 'content-type': 'multipart/form-data; boundary=b' };
        const reply = await worker.call({ body, flags: 0, meta: { headers } });
        const file = ['a.bin', 'image/x', 13, 10, 45, 45, 120, 1];
        assert.deepEqual(reply.json(), { title: 'hé', tags: ['1', '2'], file });
      });

      it('hands a megabyte of bytes over unharmed, both ways', async () => {
        const worker = await workers.start('exports.run = (event) => event.body');
        const body = Buffer.alloc(1024 * 1024, 'funcatron');
        const reply = await worker.call({ body, flags: 0, meta: { headers: { 'content-type': 'image/png' } } });
        assert.equal(reply.status, 200);
        assert.ok(reply.body.equals(body));
      });
    });

    describe('results', () => {
      const RUN = 'exports.run = (event) => results[event.body]();';
      const results = `const reply = (status, body, headers = {}) => ({ [Symbol.for('funcatron.reply')]: true, status, body, headers });
        const results = {
          nothing: () => {}, none: () => null, value: () => ({ a: 1 }), async: async () => [1], text: () => 'é', bytes: () => new Uint8Array([1, 2]),
          view: () => new DataView(new Uint8Array([9, 8, 7]).buffer, 1, 2),
          exact: () => reply(418, 'tea', { 'Content-Type': 'text/x', 'Set-Cookie': ['a=1', 'b=2'], 'Content-Length': '9', connection: 'close' }),
          json: () => reply(201, { a: 1 }), located: () => reply(201, { a: 1 }, { location: '/a' }), empty: () => reply(204, 'x'),
          cycle: () => { const a = {}; a.a = a; return a }, bigint: () => 1n, func: () => () => 1, toJSON: () => ({ toJSON() { throw new Error('secret') } }),
          status: () => reply(99, ''), split: () => reply(200, '', { 'x-a': 'b\\r\\nc: d' }), name: () => reply(200, '', { 'a b': 'c' }), huge: () => 'é'.repeat(600 * 1024),
          wide: () => 'x'.repeat(2 ** 21), flood: () => reply(200, '', { 'x-a': 'y'.repeat(40000) }),
          thrown: () => { throw new TypeError('password is 1234') }, rejected: async () => { throw { odd: true } }, nulled: () => Promise.reject(null),
        };`;

      const ask = async (body: string): ReturnType<WorkerHarness['call']> => {
        const worker = await workers.start(`${results}${RUN}`);
        return worker.call({ body: JSON.stringify(body) });
      };

      it('answers 204 for nothing, JSON for values, text and bytes as they are', async () => {
        const worker = await workers.start(`${results}${RUN}`);
        const shape = async (body: string): Promise<unknown[]> => {
          const reply = await worker.call({ body: JSON.stringify(body) });
          return [reply.status, reply.isJson, reply.headers['content-type'], reply.body.toString('latin1')];
        };
        assert.deepEqual(await shape('nothing'), [204, false, undefined, '']);
        assert.deepEqual(await shape('none'), [200, true, undefined, 'null']);
        assert.deepEqual(await shape('value'), [200, true, undefined, '{"a":1}']);
        assert.deepEqual(await shape('async'), [200, true, undefined, '[1]']);
        assert.deepEqual(await shape('text'), [200, false, 'text/plain; charset=utf-8', 'Ã©']);
        assert.deepEqual(await shape('bytes'), [200, false, 'application/octet-stream', '\u0001\u0002']);
        assert.deepEqual(await shape('view'), [200, false, 'application/octet-stream', '\u0008\u0007']);
        assert.deepEqual(await shape('json'), [201, true, undefined, '{"a":1}']);
        assert.deepEqual(await shape('located'), [201, false, 'application/json', '{"a":1}']);
        assert.deepEqual(await shape('empty'), [204, false, undefined, '']);
      });

      it('sends reply() exactly, without the headers that belong to a connection', async () => {
        const reply = await ask('exact');
        assert.deepEqual([reply.status, reply.body.toString()], [418, 'tea']);
        assert.deepEqual(reply.headers, { 'content-type': 'text/x', 'set-cookie': ['a=1', 'b=2'] });
      });

      for (const body of ['cycle', 'bigint', 'func', 'toJSON', 'status', 'split', 'name', 'flood']) {
        it(`answers INVALID_RESPONSE for what cannot be sent: ${body}`, async () => {
          const reply = await ask(body);
          const failed = reply.json() as { code: string; message: string };
          assert.deepEqual([reply.status, reply.isFailed, failed.code], [502, true, 'INVALID_RESPONSE']);
          assert.ok(!failed.message.includes('secret'), failed.message);
        });
      }

      for (const body of ['huge', 'wide']) {
        it(`answers RESPONSE_TOO_LARGE for more than 1 MiB: ${body}`, async () => {
          const reply = await ask(body);
          assert.deepEqual([reply.status, (reply.json() as { code: string }).code], [502, 'RESPONSE_TOO_LARGE']);
        });
      }

      for (const body of ['thrown', 'rejected', 'nulled']) {
        it(`answers FUNC_ERROR when the func throws, its words in the log only: ${body}`, async () => {
          const worker = await workers.start(`${results}${RUN}`);
          const reply = await worker.call({ body: JSON.stringify(body) });
          const failed = reply.json() as { code: string; message: string };
          assert.deepEqual([reply.status, failed.code], [500, 'FUNC_ERROR']);
          assert.match(failed.message, /^func run threw \(\w+\)$/);
          const [line] = worker.logs;
          assert.equal(line?.level, 'error');
          assert.equal(line.operationId, 'run');
          assert.match(line.callId ?? '', /^[0-9a-f-]{36}$/);
          if (body === 'thrown') {
            assert.match(line.message, /TypeError: password is 1234/);
            assert.match(String(line.fields?.['stack']), /bundle\.js:\d+:\d+/);
          }
        });
      }
    });

    describe('start', () => {
      const refused = async (source: string, pattern: RegExp, overrides = {}): Promise<void> => {
        const harness = new WorkerHarness();
        await assert.rejects(
          kind.start(specOf(source, overrides), harness.events),
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
        await worker.call({ operation: 1 });
        await until('the line after the flood', () => worker.logs.some(({ message }) => message === 'after'));
        assert.ok(worker.logs.length <= 4_000, `${worker.logs.length} lines`);
        assert.ok(worker.logs.every(({ message }) => message.length <= 8192));
        const dropped = worker.logs.reduce((sum, line) => sum + (line.dropped ?? 0), 0);
        assert.ok(dropped > 90_000, `${dropped} dropped`);
      });

      it('describes rejections and errors that no call waits for', async () => {
        const worker = await workers.start(`exports.run = () => {
          Promise.reject(new TypeError('forgotten'));
          Promise.reject({ get message() { throw 1 }, get stack() { throw 2 } });
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
          await new Promise(setImmediate); // a ping of the same turn would overtake the call
          const ping = assert.rejects(worker.worker.ping());
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
          try { for (;;) { const pending = fetch('http://x.test/'); pending.catch(() => {}); if (errors.push(0) > 400) await pending } } catch (error) { errors.push((error.cause ?? error).code) }
          return errors.filter(Boolean);
        }`);
        worker.perform = () => new Promise(() => undefined);
        assert.deepEqual((await worker.call()).json(), ['RangeError', 'SERVICE_BUSY']);
        assert.ok(worker.operations.length <= 256);
      });
    });
  });
}
