import assert from 'node:assert/strict';
import fc from 'fast-check';
import { splitCommand } from '../../../runner/runtimes/command-line.ts';
import { environmentOf, environmentOfCall } from '../../../runner/runtimes/environment.ts';
import { requestHead } from '../../../runner/runtimes/http-request.ts';
import type { ProgramCall } from '../../../runner/runtimes/program-call.ts';
import { specOf } from '../../contract/isolate-harness.ts';

function callOf(meta: ProgramCall['meta'], body = ''): ProgramCall {
  return {
    id: '01a1fca9-e5dc-7e5e-9530-375a5020d0c8',
    operationId: 'getOrder',
    meta,
    body: Buffer.from(body),
    deadline: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
  };
}

describe('runner/runtimes/command-line', () => {
  it('splits at blanks and keeps what is quoted', () => {
    assert.deepEqual(splitCommand(`  python3  -u 'my file.py' "a \\"b\\"" c\\ d '' `), [
      'python3',
      '-u',
      'my file.py',
      'a "b"',
      'c d',
      '',
    ]);
  });
  it('gives back any words that were quoted', () => {
    const property = fc.property(fc.array(fc.string()), (words) => {
      const line = words.map((word) => `'${word.replaceAll("'", `'"'"'`)}'`).join(' ');
      assert.deepEqual(splitCommand(line), words);
    });
    fc.assert(property);
  });
});

describe('runner/runtimes/http-request', () => {
  it("writes the request of Fn's document, with its four headers and Content-Length", () => {
    const headers = { host: 'a.example:8080', 'x-trace-id': '1', 'content-length': '99', fn_call_id: 'forged' };
    const meta = { method: 'PUT', path: '/shop/orders/7', query: { size: 'big', page: [1, 2] }, headers };
    assert.equal(
      requestHead(callOf(meta, 'world')).toString(),
      [
        'PUT /shop/orders/7?size=big&page=1&page=2 HTTP/1.1',
        'Host: a.example:8080',
        'X-Trace-Id: 1',
        'Fn_deadline: 2026-01-02T03:04:05.678Z',
        'Fn_request_url: http://a.example:8080/shop/orders/7?size=big&page=1&page=2',
        'Fn_call_id: 01a1fca9-e5dc-7e5e-9530-375a5020d0c8',
        'Fn_method: PUT',
        'Fn_operation: getOrder',
        'Content-Length: 5',
        '',
        '',
      ].join('\r\n'),
    );
  });

  it('is one request whatever stands in the call', () => {
    const any = fc.record({
      method: fc.string(),
      path: fc.string(),
      headers: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.array(fc.string()))),
      query: fc.dictionary(fc.string(), fc.string()),
    });
    const property = fc.property(any, (meta) => {
      const lines = requestHead(callOf(meta)).toString('latin1').split('\r\n');
      assert.match(lines[0] ?? '', /^[!-~]+ \/[!-~]* HTTP\/1\.1$/);
      assert.deepEqual(lines.slice(-2), ['', '']);
      for (const line of lines.slice(1, -2)) assert.match(line, /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\r\n\0]*$/);
      assert.equal(lines.filter((line) => /^content-length:/i.test(line)).length, 1);
    });
    fc.assert(property, { numRuns: 300 });
  });
});

describe('runner/runtimes/environment', () => {
  it('has nothing of the runner, config as it is written, and no name that would be obeyed before the walls stand', () => {
    const config = {
      GREETING: 'hi',
      limits: { a: 1 },
      'not-a-name': 1,
      FN_FORMAT: 'json',
      LD_PRELOAD: './x.so',
      SHELLOPTS: 'x',
    };
    const found = environmentOf(specOf('', { config, secrets: { TOKEN: 's' } }), 'http', { own: '/own' });
    assert.deepEqual(Object.keys(found).sort(), [
      'FN_APP_NAME',
      'FN_FORMAT',
      'FN_MEMORY',
      'FN_PATH',
      'FN_TYPE',
      'GREETING',
      'HOME',
      'LANG',
      'PATH',
      'TMPDIR',
      'TOKEN',
      'limits',
    ]);
    assert.deepEqual([found['GREETING'], found['limits'], found['FN_FORMAT']], ['hi', '{"a":1}', 'http']);
  });

  it('turns headers into FN_HEADER_…, none of which is a name of the system', () => {
    const headers = { path: '/evil', 'x-a': ['1', '2'], 'ld-preload': 'x', 'bad name': '1', 'x-b': 'a\0b\nc' };
    const found = environmentOfCall(callOf({ method: 'GET', path: '/a b', headers, query: {} }));
    assert.equal(found['PATH'], undefined);
    assert.equal(found['FN_HEADER_PATH'], '/evil');
    assert.equal(found['FN_HEADER_X_A'], '1, 2');
    assert.equal(found['FN_HEADER_X_B'], 'a b c');
    assert.equal(found['FN_PATH'], '/a%20b');
    assert.equal(found['FN_DEADLINE'], '2026-01-02T03:04:05.678Z');
    for (const name of Object.keys(found)) assert.match(name, /^FN_[A-Z0-9_]+$/);
  });

  it('stays small enough for a process to be started with, whatever the headers', () => {
    const headers = Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`x-${n}`, 'v'.repeat(1000)]));
    const found = environmentOfCall(callOf({ headers }));
    assert.ok(JSON.stringify(found).length < 100_000);
  });
});
