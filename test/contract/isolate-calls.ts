import assert from 'node:assert/strict';
import { betweenStamps, StampClock } from '../../core/stamp-clock.ts';
import { CallFlag } from '../../core/wire/envelope.ts';
import { until } from '../helpers/until.ts';
import { newIdBytes, type WorkerStarter } from './isolate-harness.ts';

/** Calls and events: what goes in. */
export function describeCalls(workers: WorkerStarter): void {
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

    it('says when it had a call, by the clock of the machine', async () => {
      const worker = await workers.start('exports.run = () => 1');
      const clock = new StampClock();
      const before = clock.stampOf(performance.now());
      const { arrivedUs, waitUs, funcUs } = await worker.call();
      const after = clock.stampOf(performance.now());
      // Two processes find their origins to within less than this.
      const toleranceUs = 2_000;
      assert.ok(betweenStamps(before, arrivedUs) > -toleranceUs, `${before} → ${arrivedUs}`);
      assert.ok(betweenStamps(arrivedUs, after) > waitUs + funcUs - toleranceUs, `${arrivedUs} → ${after}`);
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
}
