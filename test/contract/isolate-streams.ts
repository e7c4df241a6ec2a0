import assert from 'node:assert/strict';
import { CallFlag } from '../../core/wire/envelope.ts';
import { STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES } from '../../runner/isolate/bridge.ts';
import { until } from '../helpers/until.ts';
import type { WorkerStarter } from './isolate-harness.ts';
import { startStreaming, type StreamWorker } from './isolate-wire.ts';

const REPLY = `const reply = (status, body, headers = {}) => ({ [Symbol.for('funcatron.reply')]: true, status, body, headers });
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));`;

/** Bodies that come and go piece by piece. */
export function describeStreams(workers: WorkerStarter, state: 'kept' | 'fresh'): void {
  const start = (source: string, overrides: object = {}): Promise<StreamWorker> =>
    startStreaming(workers, `${REPLY}\n${source}`, { state, ...overrides });

  describe(`streams, state: ${state}`, () => {
    describe('in', () => {
      it('gives a func its body piece by piece, in order, and without the empty ones', async () => {
        const worker = await start(`exports.run = async (event) => {
          const texts = [];
          for await (const piece of event.stream()) texts.push(new TextDecoder().decode(piece));
          return texts;
        }`);
        const call = worker.open();
        call.send('one', 'two', '', 'three');
        call.end();
        assert.deepEqual((await call.reply).json(), ['one', 'two', 'three']);
      });

      it('brings long pieces whole, and tells the sender to go on as they are read', async () => {
        const worker = await start(`exports.run = async (event) => {
          let bytes = 0, sum = 0;
          for await (const piece of event.stream()) { bytes += piece.length; for (let n = 0; n < piece.length; n += 4099) sum += piece[n]; }
          return [bytes, sum];
        }`);
        const piece = Buffer.from(Uint8Array.from({ length: 300_000 }, (_item, index) => index % 251));
        let sum = 0;
        for (let at = 0; at < piece.length; at += 4099) sum += piece[at] ?? 0;
        const call = worker.open();
        for (let n = 0; n < 20; n++) call.send(piece);
        call.end();
        assert.deepEqual((await call.reply).json(), [6_000_000, sum * 20]);
        assert.ok(call.credit > 6_000_000 - STREAM_CREDIT_BYTES, `${call.credit}`);
      });

      it('stops the sender at 1 MiB while a func does not read, and lets it go on then', async () => {
        const worker = await start(
          `exports.run = async (event, { services }) => {
            await services.kv.get('gate');
            let bytes = 0;
            for await (const piece of event.stream()) bytes += piece.length;
            return bytes;
          }`,
          { services: { kv: { type: 'kv' } } },
        );
        const gate = Promise.withResolvers<void>();
        worker.harness.perform = async () => {
          await gate.promise;
          return { result: {} };
        };
        const call = worker.open();
        for (let bytes = 0; bytes < STREAM_CREDIT_BYTES; bytes += STREAM_FRAME_BYTES)
          call.send(Buffer.alloc(STREAM_FRAME_BYTES));
        await worker.harness.worker.ping();
        assert.equal(call.credit, 0);
        gate.resolve();
        await until('it may go on', () => call.credit >= STREAM_CREDIT_BYTES);
        call.send('more');
        call.end();
        assert.equal((await call.reply).json(), STREAM_CREDIT_BYTES + 4);
      });

      it('gives what came before the body broke off, then an AbortError', async () => {
        const worker = await start(`exports.run = async (event) => {
          let text = '';
          try { for await (const piece of event.stream()) text += new TextDecoder().decode(piece); }
          catch (error) { console.log(text, error.name, error.message); }
        }`);
        const call = worker.open();
        call.send('some');
        call.hangUp();
        await worker.logged('some AbortError the body broke off: the client has hung up');
        await call.reply;
      });

      it('lets several readers of one body take turns', async () => {
        const worker = await start(`exports.run = async (event) => {
          const body = event.stream();
          const all = await Promise.all([body.next(), body.next(), body.next()]);
          return all.map(({ value, done }) => done ? 'end' : new TextDecoder().decode(value));
        }`);
        const call = worker.open();
        call.send('a');
        await worker.harness.worker.ping();
        call.send('b');
        call.end();
        assert.deepEqual((await call.reply).json(), ['a', 'b', 'end']);
      });

      it('answers at once when the func does not want the rest, and breaks the body off for who still reads', async () => {
        const worker = await start(`exports.run = (event) => {
          (async () => { for await (const piece of event.stream()); })().catch((error) => console.log(error.message));
          return reply(403, 'no');
        }`);
        const call = worker.open();
        call.send('some');
        const { status, body } = await call.reply;
        assert.deepEqual([status, body.toString()], [403, 'no']);
        // A fresh context ends with its answer, and with it whoever reads there.
        if (state === 'kept') await worker.logged('the body broke off: the call has been answered');
        call.send('late');
        call.end();
        assert.equal((await worker.harness.call({ flags: CallFlag.text })).status, 403);
      });

      it('reads parts of a form as they come', async () => {
        const worker = await start(`exports.run = async (event) => {
          const parts = [];
          for await (const part of event.parts()) {
            parts.push([part.name, part.filename, part.contentType, part.name === 'skipped' ? '' : await part.text()]);
          }
          return parts;
        }`);
        const form = [
          ['name="a"', '', 'first'],
          ['name="skipped"; filename="x"', '\r\ncontent-type: image/png', '-'.repeat(100_000)],
          ['name="file"; filename="ü.txt"', '\r\nContent-Type: text/plain', 'line\r\n--boundar\r\n'],
        ].map(
          ([names, more, body]) => `--boundary\r\nContent-Disposition: form-data; ${names}${more}\r\n\r\n${body}\r\n`,
        );
        const bytes = Buffer.from(`${form.join('')}--boundary--\r\n`);
        const meta = { headers: { 'content-type': 'multipart/form-data; boundary=boundary' } };
        const expected = [
          ['a', null, 'text/plain', 'first'],
          ['skipped', 'x', 'image/png', ''],
          ['file', 'ü.txt', 'text/plain', 'line\r\n--boundar\r\n'],
        ];
        const call = worker.open({ meta });
        for (let at = 0; at < bytes.length; at += 977) call.send(bytes.subarray(at, at + 977));
        call.end();
        assert.deepEqual((await call.reply).json(), expected);
        const whole = await worker.harness.call({ meta, body: bytes, flags: 0 });
        assert.deepEqual(whole.json(), expected);
        const broken = await worker.harness.call({ meta, body: bytes.subarray(0, 500), flags: 0 });
        assert.deepEqual([broken.status, (broken.json() as { code: string }).code], [400, 'INVALID_REQUEST']);
      });
    });

    describe('out', () => {
      it('sends text, bytes, and anything else as lines of JSON, in order, the trailers last', async () => {
        const worker = await start(`exports.run = async function* () {
          yield 'text é 😀 \\ud800\\n'; yield '\\ud83d'; yield '\\ude00'; yield ''; yield new Uint8Array(0); yield new Uint8Array([104, 105, 10]);
          yield new DataView(new Uint8Array([1, 121, 111, 10]).buffer, 1); yield { a: 1 }; yield [null]; yield 7;
          await sleep(1); yield null;
          return { 'X-Count': 3, connection: 'close' };
        }`);
        const call = worker.get();
        const { status, headers } = await call.reply;
        assert.deepEqual([status, headers['content-type']], [200, 'application/octet-stream']);
        assert.equal(await call.whole(), 'text é 😀 \ufffd\n\ufffd\ufffdhi\nyo\n{"a":1}\n[null]\n7\nnull\n');
        assert.deepEqual([call.ended, JSON.parse(call.endText)], ['end', { 'x-count': '3' }]);
      });

      for (const [what, body] of [
        ['an async iterable', '{ [Symbol.asyncIterator]: async function* () { yield "a"; yield "b" } }'],
        [
          'an async iterator by hand',
          '((n) => ({ next: async () => ({ done: n > 1, value: "ab"[n++] }), [Symbol.asyncIterator]() { return this } }))(0)',
        ],
        ['a generator', '(function* () { yield "a"; yield "b" })()'],
        ['an iterator', '["a", "b"].values()'],
      ] as const) {
        it(`takes ${what}`, async () => {
          const worker = await start(`exports.run = () => reply(201, ${body}, { 'content-type': 'text/plain' })`);
          const call = worker.get();
          assert.equal((await call.reply).status, 201);
          assert.equal(await call.whole(), 'ab');
        });
      }

      it('takes a Response, its status, headers and body', async () => {
        const worker = await start(
          `exports.run = () => new Response('brewed', { status: 418, headers: { 'x-tea': 'green' } })`,
        );
        const { status, headers, body } = await worker.harness.call();
        assert.deepEqual(
          [status, headers['x-tea'], headers['content-type'], body.toString()],
          [418, 'green', 'text/plain;charset=UTF-8', 'brewed'],
        );
      });

      it('gives who cannot fetch it the whole body, as far as it is bounded', async () => {
        const worker = await start(`exports.run = async function* (event) {
          for (let n = 0; n < event.body; n++) yield 'x'.repeat(1000);
        }`);
        assert.equal((await worker.harness.call({ body: '1000' })).body.length, 1_000_000);
        const refused = await worker.harness.call({ body: '2000' });
        assert.equal((refused.json() as { code: string }).code, 'RESPONSE_TOO_LARGE');
      });

      it('sends one huge piece, of bytes or text, as its reader takes it', async () => {
        const worker = await start(`exports.run = function* (event) {
          yield event.body === 'bytes' ? new Uint8Array(5_000_000).fill(97) : 'a😀'.repeat(1_000_000);
        }`);
        for (const body of ['"bytes"', '"text"']) {
          const call = worker.get({ body });
          call.isReading = false;
          await call.reply;
          await until('it has sent what it may', () => call.bytes >= STREAM_CREDIT_BYTES);
          await worker.harness.worker.ping();
          assert.ok(call.bytes <= STREAM_CREDIT_BYTES + STREAM_FRAME_BYTES, `${call.bytes}`);
          call.isReading = true;
          call.give(call.bytes);
          const text = await call.whole();
          assert.ok(text === (body === '"bytes"' ? 'a'.repeat(5_000_000) : 'a😀'.repeat(1_000_000)));
          assert.ok(call.pieces.every((piece) => piece.length <= STREAM_FRAME_BYTES));
        }
      });

      it('stops a generator at 1 MiB that nobody reads on, and lets it go on', async () => {
        const worker = await start(`exports.run = async function* () { for (;;) yield new Uint8Array(10_000) }`);
        const call = worker.get();
        call.isReading = false;
        await until('it has sent what it may', () => call.bytes >= STREAM_CREDIT_BYTES);
        await worker.harness.worker.ping();
        const sent = call.bytes;
        assert.ok(sent <= STREAM_CREDIT_BYTES + 10_000, `${sent}`);
        call.give(500_000);
        await until('it goes on', () => call.bytes >= sent + 490_000);
        call.hangUp();
      });

      it('passes a body through, byte for byte', async () => {
        const worker = await start(
          `exports.run = (event) => reply(200, event.stream(), { 'content-type': event.contentType })`,
        );
        const call = worker.open();
        const piece = Buffer.from(Uint8Array.from({ length: 50_000 }, (_item, index) => index % 253));
        for (let n = 0; n < 15; n++) call.send(piece);
        await call.reply;
        await until('most of it', () => call.bytes === 15 * piece.length);
        call.send(piece);
        call.end();
        await call.whole();
        assert.ok(Buffer.concat(call.pieces).equals(Buffer.concat(Array.from({ length: 16 }, () => piece))));
        assert.equal(call.ended, 'end');
      });

      it('keeps many streams at once apart', async () => {
        const worker = await start(`exports.run = async function* (event) {
          for (let n = 0; n < 40; n++) { yield event.body + ' ' + n + '\\n'; if (n % 7 === 0) await sleep(1) }
        }`);
        const calls = Array.from({ length: 50 }, (_item, n) => worker.get({ body: JSON.stringify(`c${n}`) }));
        const texts = await Promise.all(calls.map((call) => call.whole()));
        for (const [n, text] of texts.entries()) {
          assert.equal(text, Array.from({ length: 40 }, (_item, line) => `c${n} ${line}\n`).join(''));
        }
      });
    });

    describe('faults', () => {
      it('answers FUNC_ERROR when the body throws before its first piece', async () => {
        const worker = await start(
          `exports.run = async function* () { await sleep(1); throw new TypeError('secret') }`,
        );
        const reply = await worker.get().reply;
        assert.deepEqual([reply.status, (reply.json() as { code: string }).code], [500, 'FUNC_ERROR']);
        assert.ok(!reply.body.includes('secret'));
        await worker.logged('TypeError: secret');
      });

      for (const [what, after] of [
        ['throws', "throw new Error('halfway')"],
        ['yields what is no piece', 'yield undefined'],
        ['returns what are no trailers', "return { 'a b': 'c' }"],
      ] as const) {
        it(`breaks the answer off, cleans up and logs when the body ${what} after its first piece`, async () => {
          const worker = await start(`exports.run = async function* () {
            try { yield 'some'; ${after} } finally { console.log('cleaned up') }
          }`);
          const call = worker.get();
          assert.equal((await call.reply).status, 200);
          assert.equal(await call.whole(), 'some');
          assert.equal(call.ended, 'reset');
          await worker.logged('cleaned up');
          await worker.logged('the body that func run answered with threw');
        });
      }

      it('breaks the answer off though its source never cleans up', async () => {
        const worker = await start(`exports.run = async function* () {
          try { yield 'some'; yield () => 1 } finally { await new Promise(() => {}) }
        }`);
        const call = worker.get();
        assert.equal(await call.whole(), 'some');
        assert.equal(call.ended, 'reset');
      });

      for (const [what, body] of [
        ['waits for its reader', "for (;;) yield 'x'.repeat(100_000)"],
        [
          'waits for something else',
          "yield 'x'; await new Promise((resolve) => context.signal.addEventListener('abort', resolve)); yield 'y'",
        ],
        ['waits for its turn', "for (;;) { yield 'x'; await null }"],
      ] as const) {
        it(`aborts the signal and runs finally when the client hangs up while the body ${what}`, async () => {
          const worker = await start(`exports.run = async function* (event, context) {
            try { ${body} } finally { await sleep(2); console.log('cleaned up', context.signal.aborted, context.signal.reason.name) }
          }`);
          const call = worker.get();
          call.isReading = false;
          await call.reply;
          await until('it has begun', () => call.bytes > 0);
          call.hangUp();
          await worker.logged('cleaned up true AbortError');
        });
      }

      it('lets a body go that nobody will take: the client has hung up before, or the status has none', async () => {
        const worker = await start(`
          const body = { next: async () => ({ done: false, value: 'x' }), return: async () => { console.log('let go'); return { done: true } }, [Symbol.asyncIterator]() { return this } };
          exports.run = async (event, { signal }) => {
            if (event.body === 'none') return reply(204, body);
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
            return body;
          }`);
        const late = worker.get({ body: '"late"' });
        await worker.harness.worker.ping();
        late.hangUp();
        assert.equal((await late.reply).isFailed, true);
        await worker.logged('let go');
        assert.equal((await worker.get({ body: '"none"' }).reply).status, 204);
        await until('both are let go', () => worker.lines.filter((line) => line === 'let go').length === 2);
      });

      for (const [what, body] of [
        ['empty pieces', "for (;;) yield ''"],
        ['short pieces', "for (;;) yield 'x'"],
        [
          'empty pieces of a generator that is not async',
          "const all = (function* () { for (;;) yield '' })(); yield* all",
        ],
      ] as const) {
        it(`lets other calls have their turn while a body yields ${what} for ever and never waits`, async () => {
          const worker = await start(
            `exports.run = (event) => event.body === 'bomb' ? (async function* () { yield '1'; ${body} })() : 'fine'`,
          );
          const call = worker.get({ body: '"bomb"' });
          await call.reply;
          for (let n = 0; n < 5; n++)
            assert.equal((await worker.harness.call({ body: '"other"' })).body.toString(), 'fine');
          call.hangUp();
          await worker.harness.worker.ping();
        });
      }

      it('uses services in the body of an answer, each on its own', async () => {
        const worker = await start(
          `exports.run = async function* (event, { services }) {
            for (const n of [1, 2]) { const { rows } = await services.db.query('select ' + n, []); yield rows; await sleep(1) }
          }`,
          { services: { db: { type: 'postgres' } } },
        );
        worker.harness.perform = () => Promise.resolve({ result: { fields: [], rows: [], rowCount: 0 } });
        assert.equal(await worker.get().whole(), '[]\n[]\n');
        assert.deepEqual(
          worker.harness.operations.map(({ name, callId }) => [name, callId]),
          [
            ['postgres.query', undefined],
            ['postgres.query', undefined],
          ],
        );
      });

      it('serves on after hundreds of streams that were broken off', async () => {
        const worker = await start(`exports.run = async function* () { for (;;) { yield 'x'; await sleep(5) } }`);
        for (let round = 0; round < 25; round++) {
          const calls = Array.from({ length: 8 }, () => worker.get());
          await Promise.all(calls.map((call) => call.reply));
          for (const call of calls) call.hangUp();
        }
        const call = worker.get();
        assert.equal((await call.reply).status, 200);
        call.hangUp();
      });
    });
  });
}
