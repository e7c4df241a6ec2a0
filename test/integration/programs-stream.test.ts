import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type ClientRequest, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EmbeddedCluster, openEmbedded } from '../helpers/embedded.ts';
import { needPython, processesWith } from '../helpers/programs.ts';
import { type RawAnswer, type RawRequest, send } from '../helpers/raw-http.ts';
import { until } from '../helpers/until.ts';

const BYTES = 3_000_000;
const HUGE_BYTES = 200 * 1024 * 1024;
/** What the client, the frontend and the runner of these tests, one process, may need more for a body of any length. */
const MORE_BYTES = 128 * 1024 * 1024;
const PIECE = Buffer.alloc(64 * 1024, 'abcdefg');
const MARKER = `marker-stream-${process.pid}`;
const markerOf = (runtime: string): string => `${MARKER}-${runtime}`;

/** Bytes whose places can be told apart. */
const pattern = (length: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) & 255));

function* cut(bytes: Buffer, pieceBytes = 50_000): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

function* huge(): Generator<Buffer> {
  for (let at = 0; at < HUGE_BYTES; at += PIECE.length) yield PIECE;
}

function documentOf(runtime: string, entry: string, direct: readonly string[], plain: readonly string[]): string {
  const operationOf = (path: string, extra: string): string =>
    `{ operationId: ${path}, x-funcatron: { ${extra} }, responses: { default: { description: any } } }`;
  const paths = [
    ...direct.map((path) => `  /${runtime}/${path}: { post: ${operationOf(path, 'direct: true')} }`),
    ...plain.map((path) => {
      const parameters = '[{ name: bytes, in: query, schema: { type: integer } }]';
      return `  /${runtime}/${path}: { parameters: ${parameters}, get: ${operationOf(path, '')} }`;
    }),
    `  /${runtime}/deaf: { post: ${operationOf('deaf', 'direct: true, timeoutMs: 1000')} }`,
    `  /${runtime}/whole: { post: { operationId: whole, x-funcatron: { direct: false }, requestBody: { content: { application/octet-stream: {} } }, responses: { default: { description: any } } } }`,
  ];
  return `openapi: 3.1.0
info: { title: ${runtime} stream, version: '1' }
x-funcatron: { runtime: ${runtime}, entry: ${entry} ${markerOf(runtime)}, timeoutMs: 20000, concurrency: 1, workers: { max: 2 } }
paths:
${paths.join('\n')}
`;
}

describe('bodies of programs, piece by piece', function () {
  this.timeout(20_000);
  let cluster: EmbeddedCluster;
  before(async () => {
    cluster = await openEmbedded();
  });
  after(() => cluster.close());

  const ask = (path: string, options?: RawRequest): Promise<RawAnswer> => send(`${cluster.httpUrl}${path}`, options);
  const text = ({ body }: RawAnswer): string => body.toString();
  const codeOf = (answer: RawAnswer): unknown => (JSON.parse(text(answer)) as { code?: string }).code;

  /** Begins a request and leaves when the first piece of the answer is there, or the first piece of the body has left. */
  function hangUp(path: string, method: 'GET' | 'POST'): Promise<void> {
    return new Promise((resolve, reject) => {
      const req: ClientRequest = request(`${cluster.httpUrl}${path}`, { agent: false, method }, (res) => {
        res.on('error', () => undefined);
        res.once('data', () => {
          req.destroy();
          resolve();
        });
      });
      req.on('error', reject);
      if (method === 'GET') req.end();
      else req.write(PIECE);
    });
  }

  /** Sends a body of any length through `path` and back; gives how much more memory this process had meanwhile. */
  async function passHuge(path: string): Promise<number> {
    const before = process.memoryUsage.rss();
    let most = 0;
    let bytes = 0;
    const answer = await ask(path, {
      pieces: huge(),
      onPiece(piece) {
        bytes += piece.length;
        most = Math.max(most, process.memoryUsage.rss());
      },
    });
    assert.deepEqual([answer.status, answer.isCut, bytes], [200, false, HUGE_BYTES]);
    return most - before;
  }

  async function deployProgram(program: string, document: string): Promise<void> {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-stream-'));
    try {
      cpSync(`test/fixtures/programs/${program}`, join(folder, program));
      writeFileSync(join(folder, 'funcatron.yaml'), document);
      await cluster.deploy(folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  describe('of runtime http', () => {
    const DIRECT = ['pass', 'count', 'early', 'dies', 'rubbish', 'cut'];
    const PLAIN = ['long', 'trailers', 'endless', 'closes', 'self'];
    before(() => deployProgram('stream.pl', documentOf('http', './stream.pl', DIRECT, PLAIN)));

    it('go in with the length the client says, or in chunks', async () => {
      const body = pattern(BYTES);
      const known = { 'content-length': String(BYTES) };
      const declared = await ask('/http/count', { pieces: cut(body), headers: known });
      assert.equal(text(declared), `length ${BYTES}, ${BYTES} bytes`);
      assert.equal(text(await ask('/http/count', { pieces: cut(body) })), `chunked, ${BYTES} bytes`);
    });

    it('come back byte for byte, while they are on their way', async () => {
      const body = pattern(BYTES);
      const answer = await ask('/http/pass', { pieces: cut(body) });
      assert.ok(answer.body.equals(body) && !answer.isCut);
      let onFirst = (): void => undefined;
      const first = new Promise<void>((resolve) => (onFirst = resolve));
      async function* halves(): AsyncGenerator<string> {
        yield 'first,';
        await first;
        yield 'second';
      }
      const received: string[] = [];
      await ask('/http/pass', {
        pieces: halves(),
        onPiece(piece) {
          received.push(piece.toString());
          onFirst();
        },
      });
      assert.equal(received.join(''), 'first,second');
    });

    it('are collected for an operation that is not direct', async () => {
      const answer = await ask('/http/whole', {
        pieces: cut(pattern(BYTES)),
        headers: { 'content-type': 'application/octet-stream' },
      });
      assert.equal(text(answer), `length ${BYTES}, ${BYTES} bytes`);
    });

    for (const bytes of [65_536, 131_072, 20 * 65_536]) {
      it(`leave with their length, ${bytes} bytes`, async () => {
        const { headers, body } = await ask(`/http/long?bytes=${bytes}`);
        assert.deepEqual([headers['content-length'], body.length], [String(bytes), bytes]);
      });
    }

    it('bring their trailers', async () => {
      const answer = await ask('/http/trailers');
      assert.deepEqual([text(answer), answer.trailers['x-count']], ['a', '1']);
    });

    it('end with the program that says so, and the next call finds a new one', async () => {
      const closed = await ask('/http/closes');
      assert.deepEqual([text(closed), closed.isCut], ['all of it', false]);
      assert.equal((await ask('/http/self')).status, 200);
    });

    for (const [path, misdeed] of [
      ['cut', 'ends with an exit code'],
      ['dies', 'dies'],
      ['rubbish', 'writes rubbish'],
    ] as const) {
      it(`are reset when the program ${misdeed} in the middle, and the next call finds a new one`, async () => {
        const answer = await ask(`/http/${path}`, { pieces: ['x'] });
        assert.ok(answer.isCut || answer.status >= 500, `${answer.status} ${text(answer)}`);
        assert.equal((await ask('/http/self')).status, 200);
      });
    }

    it('need not be read: the answer comes, and a new program for the next call', async () => {
      const before = text(await ask('/http/self'));
      const answer = await ask('/http/early', { pieces: cut(pattern(BYTES)) });
      assert.deepEqual([answer.status, text(answer)], [200, 'too much']);
      assert.notEqual(text(await ask('/http/self')), before);
    });

    it('wait no longer than the deadline for a program that never reads', async () => {
      const answer = await ask('/http/deaf', { pieces: cut(pattern(BYTES)) });
      assert.equal(codeOf(answer), 'TIMEOUT');
      assert.equal((await ask('/http/self')).status, 200);
    });

    it('end when the client hangs up in the answer, and the next call finds a program', async () => {
      await hangUp('/http/endless', 'GET');
      assert.equal((await ask('/http/self')).status, 200);
    });

    it('end when the client hangs up in the request, and the next call finds a program', async () => {
      await hangUp('/http/pass', 'POST');
      assert.equal((await ask('/http/self')).status, 200);
    });

    it('keep the slot of their call while they leave: the next one finds another worker', async () => {
      const slow = request(`${cluster.httpUrl}/http/endless`, { agent: false });
      slow.on('error', () => undefined);
      slow.end();
      await new Promise<void>((resolve) => slow.once('response', () => resolve()));
      assert.equal((await ask('/http/self')).status, 200);
      slow.destroy();
    });

    it('need no memory for their length', async () => {
      await ask('/http/pass', { pieces: cut(pattern(BYTES)) });
      const more = await passHuge('/http/pass');
      assert.ok(more < MORE_BYTES, `${more} bytes`);
    });
  });

  describe('of runtime default', () => {
    const DIRECT = ['pass', 'count', 'fails', 'early', 'json'];
    const PLAIN = ['long', 'cut', 'endless'];
    before(() => deployProgram('stream-once.pl', documentOf('default', './stream-once.pl', DIRECT, PLAIN)));

    it('are stdin as they come, and stdout as it is written', async () => {
      const body = pattern(BYTES);
      assert.equal(text(await ask('/default/count', { pieces: cut(body) })), `${BYTES} bytes`);
      const answer = await ask('/default/pass', { pieces: cut(body) });
      assert.ok(answer.body.equals(body) && !answer.isCut);
      assert.equal(answer.headers['content-type'], 'application/octet-stream');
    });

    it('may be longer than a message, and are not called JSON when their end is not known', async () => {
      const { headers, body, isCut } = await ask('/default/long');
      assert.deepEqual([body.length, isCut], [100 * 65_536, false]);
      assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
      const json = await ask('/default/json', { pieces: ['x'] });
      assert.deepEqual([text(json), json.headers['content-type']], ['{"a":1}', 'text/plain; charset=utf-8']);
    });

    it('are reset when the program fails after bytes have left', async () => {
      const answer = await ask('/default/cut');
      assert.deepEqual([answer.status, answer.isCut], [200, true]);
    });

    it('are 502 FUNC_CRASHED when it fails before', async () => {
      const answer = await ask('/default/fails', { pieces: cut(pattern(BYTES)) });
      assert.deepEqual([answer.status, codeOf(answer)], [502, 'FUNC_CRASHED']);
    });

    it('need not be read', async () => {
      const answer = await ask('/default/early', { pieces: cut(pattern(BYTES)) });
      assert.deepEqual([answer.status, text(answer)], [200, 'enough']);
    });

    it('wait no longer than the deadline for a program that never reads', async () => {
      assert.equal(codeOf(await ask('/default/deaf', { pieces: cut(pattern(BYTES)) })), 'TIMEOUT');
      await until('the program is gone', () => processesWith(markerOf('default')).length === 0);
    });

    for (const [path, method] of [
      ['endless', 'GET'],
      ['pass', 'POST'],
    ] as const) {
      it(`end with their program when the client of ${path} hangs up`, async () => {
        await hangUp(`/default/${path}`, method);
        await until('the program is gone', () => processesWith(markerOf('default')).length === 0);
      });
    }

    it('need no memory for their length', async () => {
      const more = await passHuge('/default/pass');
      assert.ok(more < MORE_BYTES, `${more} bytes`);
    });
  });

  describe('of runtime python', () => {
    before(async function () {
      needPython(this);
      await cluster.deploy(join(import.meta.dirname, '../fixtures/bundles/python-stream'));
    });
    const jsonOf = (answer: RawAnswer): Record<string, unknown> => JSON.parse(text(answer)) as Record<string, unknown>;

    for (const path of ['count', 'acount']) {
      it(`are read as they come (${path})`, async () => {
        const headers = { 'content-length': String(BYTES) };
        const { pieces, ...rest } = jsonOf(await ask(`/python/${path}`, { pieces: cut(pattern(BYTES)), headers }));
        assert.deepEqual(rest, { bytes: BYTES, size: BYTES });
        assert.ok(Number(pieces) > 1, `${String(pieces)} pieces`);
        assert.equal(jsonOf(await ask(`/python/${path}`, { pieces: cut(pattern(BYTES)) }))['size'], null);
      });
    }

    for (const path of ['pass', 'apass']) {
      it(`are passed on as they come (${path})`, async () => {
        const body = pattern(BYTES);
        const answer = await ask(`/python/${path}`, { pieces: cut(body), headers: { 'content-type': 'image/png' } });
        assert.ok(answer.body.equals(body) && !answer.isCut);
        assert.equal(answer.headers['content-type'], 'image/png');
      });
    }

    it('are event.body where a plain handler reads that, and whole for an operation that is not direct', async () => {
      assert.deepEqual(jsonOf(await ask('/python/body', { pieces: cut(pattern(BYTES)) })), { bytes: BYTES });
      const headers = { 'content-type': 'application/octet-stream' };
      const whole = jsonOf(await ask('/python/whole', { pieces: cut(pattern(BYTES)), headers }));
      assert.deepEqual(whole, { bytes: BYTES, streamed: BYTES });
      assert.deepEqual(jsonOf(await ask('/python/whole', { pieces: ['x'], headers })), { bytes: 1, streamed: 1 });
    });

    for (const bytes of [65_536, 65_537, 5_000_000]) {
      it(`leave with their length, ${bytes} bytes`, async () => {
        const { headers, body } = await ask(`/python/long?bytes=${bytes}`);
        assert.deepEqual([headers['content-length'], body.length], [String(bytes), bytes]);
      });
    }

    it('are made by generators, whose value is their trailers', async () => {
      const plain = await ask('/python/events');
      assert.deepEqual([text(plain), plain.trailers], ['data: 1\n\ndata: 2\n\ndata: 3\n\n', { 'x-count': '3' }]);
      assert.equal(plain.headers['content-type'], 'text/event-stream');
      assert.equal(text(await ask('/python/aevents')), text(plain));
      assert.equal(text(await ask('/python/lines')), '{"ü": 1}\n[2]\n');
    });

    it('are reset when their generator raises or the worker dies, and 500 when it raises before anything', async () => {
      for (const path of ['breaks', 'dies']) {
        const { status, isCut } = await ask(`/python/${path}`);
        assert.deepEqual([status, isCut], [200, true], path);
      }
      assert.deepEqual([(await ask('/python/raises')).status], [500]);
    });

    it('wait no longer than the deadline for a handler that never reads, or a client that never ends', async () => {
      assert.equal(codeOf(await ask('/python/deaf', { pieces: cut(pattern(BYTES)) })), 'TIMEOUT');
      let goOn = (): void => undefined;
      const answered = new Promise<void>((resolve) => (goOn = resolve));
      async function* halted(): AsyncGenerator<string> {
        yield 'x';
        await answered;
      }
      assert.equal(codeOf(await ask('/python/hungry', { pieces: halted() })), 'TIMEOUT');
      goOn();
    });

    it('have their generator closed when the client hangs up', async () => {
      await hangUp('/python/endless', 'GET');
      await hangUp('/python/aendless', 'GET');
      await until('both are closed', async () => text(await ask('/python/closed')) === '["plain", "async"]');
    });

    it('break off in the handler when the client hangs up', async () => {
      await hangUp('/python/pass', 'POST');
      assert.equal((await ask('/python/closed')).status, 200);
    });

    for (const path of ['pass', 'apass']) {
      it(`need no memory for their length (${path})`, async () => {
        const more = await passHuge(`/python/${path}`);
        assert.ok(more < MORE_BYTES, `${more} bytes`);
      });
    }
  });
});
