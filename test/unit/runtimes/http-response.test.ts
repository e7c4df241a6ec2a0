import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ResponseProblem, ResponseReader, type WholeResponse } from '../../../runner/runtimes/http-response.ts';

const LIMITS = { headBytes: 1024, headers: 10, bodyBytes: 4096 };

function read(text: string | Buffer, method = 'GET', pieceBytes = Infinity): WholeResponse | undefined {
  const reader = new ResponseReader(method, LIMITS);
  const bytes = Buffer.from(text as string, 'latin1');
  let reply: WholeResponse | undefined;
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    reply = reader.push(bytes.subarray(at, at + Math.min(pieceBytes, bytes.length)));
  }
  return reply;
}

function problemOf(text: string, method?: string): string {
  try {
    const reply = read(text, method);
    return reply === undefined ? 'unfinished' : `status ${reply.status}`;
  } catch (error) {
    assert.ok(error instanceof ResponseProblem);
    return `${error.code}: ${error.message}`;
  }
}

describe('runner/runtimes/http-response', () => {
  it("reads the response of Fn's document, with line ends of either kind", () => {
    for (const end of ['\n', '\r\n']) {
      const reply = read(['HTTP/1.1 200 OK', 'Content-Length: 11', '', 'hello world'].join(end));
      assert.deepEqual([reply?.status, reply?.headers, reply?.body.toString()], [200, {}, 'hello world']);
    }
  });

  it('gives the same reply however its bytes are cut, for any body and headers', () => {
    const name = fc.stringMatching(/^x-[a-z0-9]{1,8}$/);
    const value = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/);
    const property = fc.property(
      fc.uint8Array({ maxLength: 2000 }),
      fc.uniqueArray(fc.tuple(name, value), { maxLength: 8, selector: ([key]) => key }),
      fc.integer({ min: 200, max: 599 }).filter((status) => status !== 204 && status !== 304),
      fc.boolean(),
      fc.integer({ min: 1, max: 64 }),
      (bytes, headers, status, isChunked, piece) => {
        const body = Buffer.from(bytes);
        const lines = headers.map(([key, text]) => `${key.toUpperCase()}:  ${text} \r\n`).join('');
        const framed = isChunked
          ? Buffer.concat([
              Buffer.from('Transfer-Encoding: chunked\r\n\r\n'),
              ...chunksOf(body, piece).map((part) =>
                Buffer.concat([Buffer.from(`${part.length.toString(16)};x=y\r\n`), part, Buffer.from('\r\n')]),
              ),
              Buffer.from('0\r\nTrailer: 1\r\n\r\n'),
            ])
          : Buffer.concat([Buffer.from(`Content-Length: ${body.length}\r\n\r\n`), body]);
        const reply = read(
          Buffer.concat([Buffer.from(`\r\nHTTP/1.1 ${status} Any\r\n${lines}`), framed]),
          'GET',
          piece,
        );
        assert.equal(reply?.status, status);
        assert.deepEqual(reply.headers, Object.fromEntries(headers));
        assert.ok(reply.body.equals(body));
      },
    );
    fc.assert(property, { numRuns: 200 });
  });

  it('takes no bytes whatever for a response, and throws nothing but its own error', () => {
    const text = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      fc.string({ maxLength: 200 }).map((tail) => Buffer.from(`HTTP/1.1 200 OK\r\n${tail}`)),
    );
    const property = fc.property(text, fc.integer({ min: 1, max: 9 }), (bytes, piece) => {
      try {
        const reply = read(bytes, 'GET', piece);
        if (reply !== undefined) assert.ok(bytes.toString('latin1').includes('HTTP/1.'));
      } catch (error) {
        assert.ok(error instanceof ResponseProblem, String(error));
      }
    });
    fc.assert(property, { numRuns: 300 });
  });

  it('reads no body after HEAD, 204 and 304', () => {
    assert.equal(problemOf('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', 'HEAD'), 'status 200');
    assert.equal(problemOf('HTTP/1.1 204 No Content\r\n\r\n'), 'status 204');
    assert.equal(problemOf('HTTP/1.1 304\r\n\r\n'), 'status 304');
  });

  it('keeps headers that come twice, and drops those of the connection', () => {
    const reply = read('HTTP/1.0 201 Made\nSet-Cookie: a=1\nSet-Cookie: b=2\nConnection: close\nContent-Length: 0\n\n');
    assert.deepEqual(reply?.headers, { 'set-cookie': ['a=1', 'b=2'] });
  });

  it('takes what `echo` adds after a response, and nothing else', () => {
    assert.equal(problemOf('HTTP/1.1 200 OK\nContent-Length: 1\n\na\n'), 'status 200');
    assert.match(problemOf('HTTP/1.1 200 OK\nContent-Length: 1\n\nab'), /more than its response/);
  });

  it('ends with the output where it says so, and only there', () => {
    for (const head of ['HTTP/1.1 200 OK\nConnection: close', 'HTTP/1.0 200 OK']) {
      const reader = new ResponseReader('GET', LIMITS);
      assert.equal(reader.push(Buffer.from(`${head}\n\nall`)), undefined);
      assert.deepEqual([reader.endsWithOutput, reader.head?.bytes], [true, undefined]);
      assert.equal(reader.push(Buffer.from(' of it')), undefined);
      assert.equal(reader.close().body.toString(), 'all of it');
    }
    assert.match(problemOf('HTTP/1.0 200 OK\nConnection: keep-alive\n\n'), /no Content-Length/);
  });

  it('passes a body on as it comes, and tells its length and trailers', () => {
    const reader = new ResponseReader('GET', LIMITS);
    reader.push(Buffer.from('HTTP/1.1 200 OK\nA: b\nTransfer-Encoding: chunked\n\n1\na\n'));
    assert.deepEqual(reader.head, { status: 200, headers: { a: 'b' }, bytes: undefined });
    const pieces: string[] = [];
    reader.passTo((piece) => pieces.push(piece.toString()));
    const whole = reader.push(Buffer.from('2\nbc\n0\nX-Count: 2\nnonsense\nTransfer-Encoding: x\n\n'));
    assert.deepEqual([pieces, whole?.body.length, whole?.trailers], [['a', 'bc'], 0, { 'x-count': '2' }]);
    const known = new ResponseReader('GET', LIMITS);
    known.push(Buffer.from('HTTP/1.1 200 OK\nContent-Length: 3\n\na'));
    assert.equal(known.head?.bytes, 3);
  });

  const refused: readonly (readonly [string, string, RegExp])[] = [
    ['a word', 'hello\n', /status line/],
    ['a status line of another version', 'HTTP/2 200 OK\n', /status line/],
    ['a status beyond 599', 'HTTP/1.1 600 Odd\n', /status line/],
    ['an interim status', 'HTTP/1.1 100 Continue\n', /status line/],
    ['no Content-Length', 'HTTP/1.1 200 OK\n\n', /no Content-Length/],
    ['two that differ', 'HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n', /not one number/],
    ['a negative one', 'HTTP/1.1 200 OK\nContent-Length: -1\n\n', /not one number/],
    ['both framings', 'HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked\n\n', /both/],
    ['a coding it cannot undo', 'HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n', /not chunked/],
    ['a header without a colon', 'HTTP/1.1 200 OK\nnonsense\n', /header lines/],
    ['a blank before the colon', 'HTTP/1.1 200 OK\nA : b\n', /header lines/],
    ['a folded header', 'HTTP/1.1 200 OK\nA: b\n c\n', /header lines/],
    ['a CR inside a header', 'HTTP/1.1 200 OK\nA: b\rc\n', /header lines/],
    ['too many headers', `HTTP/1.1 200 OK\n${'a: b\n'.repeat(11)}`, /too many headers/],
    ['headers without end', `HTTP/1.1 200 OK\nA: ${'b'.repeat(2000)}`, /longer than 1024/],
    ['blank lines without end', '\n'.repeat(2000), /longer than 1024/],
    ['a body beyond the limit', 'HTTP/1.1 200 OK\nContent-Length: 4097\n\n', /^RESPONSE_TOO_LARGE/],
    ['chunks beyond it', 'HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nffffffff\n', /^RESPONSE_TOO_LARGE/],
    ['a chunk without size', 'HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nzz\n', /its size/],
    ['a chunk longer than it said', 'HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nab\n', /longer than it said/],
  ];
  for (const [what, text, reason] of refused) it(`refuses ${what}`, () => assert.match(problemOf(text), reason));
});

function chunksOf(body: Buffer, size: number): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; at += size) parts.push(body.subarray(at, at + size));
  return parts;
}
