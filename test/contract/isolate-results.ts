import assert from 'node:assert/strict';
import { type WorkerHarness, type WorkerStarter } from './isolate-harness.ts';

/** Results: what comes out. */
export function describeResults(workers: WorkerStarter): void {
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
}
