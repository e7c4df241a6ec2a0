import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';
import { get, send } from '../helpers/transfers.ts';
import { until } from '../helpers/until.ts';

const EXPECT = { expect: '100-continue' };
const BUNDLE = join(import.meta.dirname, '../fixtures/bundles/direct-faults');

describe('the direct path under faults', function () {
  this.timeout(60_000);
  let cluster: EmbeddedCluster;
  let url: string;

  before(async () => {
    cluster = await openEmbedded();
    await cluster.deploy(BUNDLE);
    url = `${cluster.httpUrl}/faults`;
  });
  after(() => cluster.close());

  async function seen(): Promise<Record<'started' | 'briefs' | 'aborted' | 'rejected' | 'made' | 'closed', number>> {
    return JSON.parse((await get(`${url}/seen`)).text) as Awaited<ReturnType<typeof seen>>;
  }

  /** Slots of the one worker: so many calls at once get an answer. */
  async function hasAllSlots(): Promise<void> {
    const bodies = Array.from({ length: 4 }, () => send(`${url}/hash`, { method: 'POST' }));
    for (const { req } of bodies) req.write('x');
    for (const { req } of bodies) req.end();
    for (const { ended } of bodies) assert.equal((await ended).status, 200);
  }

  /** Takes them, and gives what lets go of them again. */
  async function holdAllSlots(): Promise<() => void> {
    const holding = Array.from({ length: 4 }, () => send(`${url}/hold`, { method: 'POST', headers: EXPECT }));
    const taken = holding.map(({ req }) => new Promise((resolve) => req.on('continue', resolve)));
    for (const { req } of holding) req.flushHeaders();
    await Promise.all(taken);
    return () => {
      for (const { req } of holding) req.destroy();
    };
  }

  describe('of the func', () => {
    it('answers FUNC_ERROR when it throws before the first byte of its answer', async () => {
      for (const path of ['made?throwAt=0', 'made?throwAt=0&status=201']) {
        const { status, code } = await get(`${url}/${path}`);
        assert.deepEqual({ status, code }, { status: 500, code: 'FUNC_ERROR' });
      }
      const { req, ended } = send(`${url}/made?throwAt=0`, { method: 'POST' });
      req.end('a body');
      assert.equal((await ended).code, 'FUNC_ERROR');
    });

    it('cuts an answer off when it throws in the middle of it', async () => {
      for (const method of ['GET', 'POST']) {
        const { status, isCut } = await get(`${url}/made?bytes=10&throwAt=3&everyMs=20`, { method });
        assert.deepEqual({ status, isCut }, { status: 200, isCut: true });
      }
    });

    it('resets the connection of an HTTP/1.0 client, to whom its end would be that of the body', async () => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1');
      socket.write('GET /faults/made?bytes=10&throwAt=3&everyMs=50 HTTP/1.0\r\n\r\n');
      let text = '';
      socket.on('data', (piece) => (text += String(piece)));
      const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
        socket.on('error', resolve);
        socket.on('end', () => resolve(undefined));
      });
      assert.match(text, /^HTTP\/1\.1 200 /);
      assert.equal(error?.code, 'ECONNRESET');
    });

    it('sends trailers that are some, and no others; a worker is not killed for those', async () => {
      assert.deepEqual((await get(`${url}/trailers?kind=good`)).trailers, { 'x-sum': '7' });
      const { started } = await seen();
      await get(`${url}/hash`, { method: 'POST' });
      for (const kind of ['bad', 'split', 'giant', 'none']) {
        assert.deepEqual((await get(`${url}/trailers?kind=${kind}`)).trailers, {}, kind);
      }
      assert.equal((await seen()).started, started + 1);
    });

    for (const [what, options, query, status] of [
      ['HEAD', { method: 'HEAD' }, '', 200],
      ['a 204', {}, '?status=204', 204],
      ['a 304', {}, '?status=304', 304],
    ] as const) {
      it(`ends what makes a body that nobody wants: ${what}`, async () => {
        const before = await seen();
        const ended = await get(`${url}/made${query}`, options);
        assert.deepEqual([ended.status, ended.text, ended.isCut], [status, '', false]);
        await until('nothing is made any more', async () => {
          const { made, closed } = await seen();
          // A body that is never read has never been begun: then there is nothing to be closed.
          return closed > before.closed || made === before.made;
        });
      });
    }

    it('lets a func answer without reading the body', async () => {
      const { req, ended } = send(`${url}/early`, { method: 'POST' });
      req.write('some');
      assert.deepEqual((await ended).status, 200);
      req.destroy();
      await hasAllSlots();
    });

    it('does not read a body to its end that nobody reads any more', async () => {
      const { req, ended } = send(`${url}/early`, { method: 'POST' });
      let sentBytes = 0;
      const piece = Buffer.alloc(1024 * 1024);
      const more = (): void => {
        sentBytes += piece.length;
        if (!req.destroyed) req.write(piece, () => setImmediate(more));
      };
      more();
      assert.equal((await ended).status, 200);
      await until('the connection has ended', () => req.destroyed || req.socket?.destroyed === true, 15_000);
      assert.ok(sentBytes < 200 * 1024 * 1024, `${sentBytes} bytes`);
    });
  });

  describe('of the client', () => {
    it('aborts the func whose client hangs up while it uploads', async () => {
      const before = await seen();
      const { req } = send(`${url}/hold`, { method: 'POST' });
      req.write('some');
      await until('it has started', async () => (await seen()).started > before.started);
      req.destroy();
      await until('it has been told', async () => {
        const now = await seen();
        return now.aborted > before.aborted && now.rejected > before.rejected;
      });
      await hasAllSlots();
    });

    it('does not start the func whose client hangs up before a runner has taken the body', async () => {
      const { started } = await seen();
      const letGo = await holdAllSlots();
      const { req } = send(`${url}/hash`, { method: 'POST' });
      req.write('some');
      await new Promise((resolve) => setTimeout(resolve, 100));
      req.destroy();
      await new Promise((resolve) => setTimeout(resolve, 100));
      letGo();
      assert.equal((await seen()).started, started + 4);
    });

    it('ends the body whose client hangs up while it downloads', async () => {
      const before = await seen();
      const { req } = send(`${url}/made?everyMs=10`);
      req.end();
      await new Promise<void>((resolve) => req.on('response', (res) => res.once('data', () => resolve())));
      req.destroy();
      await until('it has been closed', async () => (await seen()).closed > before.closed);
    });

    it('makes no more than a slow reader takes', async () => {
      const before = await seen();
      const { req } = send(`${url}/made?bytes=65536`);
      req.end();
      const res = await new Promise<IncomingMessage>((resolve) => req.on('response', resolve));
      res.pause();
      let last = -1;
      await until('nothing more is made', async () => {
        const { made } = await seen();
        const isSteady = made === last;
        last = made;
        if (!isSteady) await new Promise((resolve) => setTimeout(resolve, 300));
        return isSteady;
      });
      // Credit, the buffers of two processes and four sockets.
      assert.ok((last - before.made) * 65_536 < 24 * 1024 * 1024, `${last - before.made} pieces`);
      req.destroy();
      await until('it has been closed', async () => (await seen()).closed > before.closed);
    });

    it('takes a body that comes slowly, a piece at a time', async () => {
      const { req, ended } = send(`${url}/hash`, { method: 'POST' });
      for (let piece = 0; piece < 20; piece++) {
        req.write('x');
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      req.end();
      assert.equal((await ended).text, '{"bytes":20}');
    });

    it('answers TIMEOUT when the deadline passes while the body is on its way', async () => {
      const { req, ended } = send(`${url}/brief`, { method: 'POST' });
      req.write('some');
      const { status, code } = await ended;
      assert.deepEqual({ status, code }, { status: 504, code: 'TIMEOUT' });
      req.destroy();
      await hasAllSlots();
    });

    it('answers TIMEOUT when the deadline passes before a runner has taken the body', async () => {
      const { briefs } = await seen();
      const letGo = await holdAllSlots();

      const { req, ended } = send(`${url}/brief`, { method: 'POST' });
      req.write('some');
      assert.equal((await ended).code, 'TIMEOUT');
      req.destroy();
      letGo();
      await hasAllSlots();
      assert.equal((await seen()).briefs, briefs);
    });

    it('answers 413 to a body that says it is too long, without reading it', async () => {
      const { req, ended } = send(`${url}/short`, { method: 'POST', headers: { 'content-length': 10 ** 12 } });
      req.write('x');
      assert.equal((await ended).code, 'PAYLOAD_TOO_LARGE');
      req.destroy();
    });

    it('answers 413 to a body that turns out too long, and stops the func', async () => {
      const { req, ended } = send(`${url}/short`, { method: 'POST' });
      const piece = Buffer.alloc(64 * 1024);
      const more = (): void => void (!req.destroyed && req.write(piece, () => setImmediate(more)));
      more();
      assert.equal((await ended).code, 'PAYLOAD_TOO_LARGE');
      req.destroy();
      await hasAllSlots();
    });
  });

  describe('with Expect: 100-continue', () => {
    it('asks for the body when a runner takes it', async () => {
      const { req, ended } = send(`${url}/hash`, { method: 'POST', headers: EXPECT });
      await new Promise((resolve) => req.on('continue', resolve));
      req.end('hello');
      assert.equal((await ended).text, '{"bytes":5}');
    });

    it('does not ask for a body that is too long, or that no operation takes', async () => {
      for (const [path, length, status] of [
        ['short', 10 ** 9, 413],
        ['nothing', 10, 404],
      ] as const) {
        const { req, ended } = send(`${url}/${path}`, {
          method: 'POST',
          headers: { ...EXPECT, 'content-length': length },
        });
        let asked = 0;
        req.on('continue', () => asked++);
        req.flushHeaders();
        assert.equal((await ended).status, status);
        assert.equal(asked, 0);
        req.destroy();
      }
    });

    it('does not ask for the body while every slot is taken', async () => {
      const letGo = await holdAllSlots();
      const { req, ended } = send(`${url}/hash`, { method: 'POST', headers: EXPECT });
      let isFree = false;
      req.on('continue', () => {
        assert.ok(isFree);
        req.end('hello');
      });
      req.flushHeaders();
      await new Promise((resolve) => setTimeout(resolve, 200));
      isFree = true;
      letGo();
      assert.equal((await ended).text, '{"bytes":5}');
    });
  });

  describe('for callers that take an answer in one piece', () => {
    it('collects what a func streams, up to 1 MiB: of the queue', async () => {
      const short = await cluster.invoke('faults', 'trailers', {});
      assert.deepEqual([short.status, await short.text()], [200, 'body']);
      const long = await cluster.invoke('faults', 'made', {});
      assert.equal(((await long.json()) as { code: string }).code, 'RESPONSE_TOO_LARGE');
    });

    it('collects what a func streams, up to 1 MiB: another func', async () => {
      assert.equal((await get(`${url}/collect?bytes=1000`)).text, '{"status":200,"bytes":16000}');
      assert.equal((await get(`${url}/collect?bytes=100000`)).text, '{"code":"RESPONSE_TOO_LARGE"}');
    });
  });
});

describe('the direct path from another length on', function () {
  this.timeout(60_000);
  const MiB = 1024 * 1024;

  for (const directThresholdBytes of [0, 1, MiB]) {
    it(`brings every body there and back: from ${directThresholdBytes} bytes on`, async () => {
      const cluster = await openEmbedded({ directThresholdBytes: String(directThresholdBytes) });
      try {
        await cluster.deploy(BUNDLE);
        const url = `${cluster.httpUrl}/faults`;
        for (const bytes of [0, 1, 2, 65_536, MiB, MiB + 1, 3 * MiB]) {
          for (const path of ['whole', 'hash']) {
            const headers = { 'content-type': 'application/octet-stream' };
            const { req, ended } = send(`${url}/${path}`, { method: 'POST', headers });
            req.end(Buffer.alloc(bytes));
            assert.equal((await ended).text, `{"bytes":${bytes}}`, path);
          }
          const { text, isCut } = await get(`${url}/long?bytes=${bytes}`);
          assert.deepEqual([text.length, isCut], [bytes, false]);
        }
      } finally {
        await cluster.close();
      }
    });
  }
});
