import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CallFlag } from '../../core/wire/envelope.ts';
import { createPythonRuntime } from '../../runner/runtimes/python.ts';
import { RuntimeStarter } from '../contract/runtime-harness.ts';
import { newIdBytes, type WorkerHarness } from '../contract/isolate-harness.ts';
import { until } from '../helpers/until.ts';

describe('runner/runtimes/python', () => {
  const workers = new RuntimeStarter(createPythonRuntime);
  afterEach(() => workers.endAll());

  const start = (source: string, concurrency = 1, handlers = ['run']): Promise<WorkerHarness> =>
    workers.start({ 'main.py': source }, { entry: 'main:handler', concurrency, config: { a: 1 } }, handlers);

  describe('handlers', () => {
    it('get the event as Nuclio spells it', async () => {
      const worker = await start(`
def handler(context, event):
    return {
        'id': event.id, 'body': event.body.decode(), 'json': event.json(), 'size': event.size, 'path': event.path,
        'method': event.method, 'headers': event.headers, 'fields': event.fields, 'query': event.query,
        'params': event.params, 'content_type': event.content_type, 'time': event.timestamp.isoformat(),
        'trigger': event.trigger.kind, 'attempt': event.attempt, 'config': context.config,
    }
`);
      const id = Buffer.from('0193a0b1c2d37e4f8a5b6c7d8e9fa0b1', 'hex');
      const headers = { 'content-type': 'application/json', 'x-a': 'ä' };
      const meta = { method: 'PUT', path: '/a/b', params: { id: 5 }, query: { q: [1] }, headers, time: 0 };
      const reply = await worker.call({ id, attempt: 2, body: '{"ü":1}', meta });
      assert.deepEqual(reply.json(), {
        id: '0193a0b1-c2d3-7e4f-8a5b-6c7d8e9fa0b1',
        body: '{"ü":1}',
        json: { ü: 1 },
        size: 8,
        path: '/a/b',
        method: 'PUT',
        headers,
        fields: { q: [1] },
        query: { q: [1] },
        params: { id: 5 },
        content_type: 'application/json',
        time: '1970-01-01T00:00:00+00:00',
        trigger: 'http',
        attempt: 2,
        config: { a: 1 },
      });
    });

    it('are found by module:function, by name in the entry’s module, or are the entry', async () => {
      const files = {
        'main.py': `def handler(context, event): return 'entry'\ndef named(context, event): return 'named'`,
        'lib/__init__.py': '',
        'lib/other.py': `def func(context, event): return 'other'`,
      };
      const handlers = ['anything', 'named', 'lib.other:func'];
      const worker = await workers.start(files, { entry: 'main:handler', concurrency: 1 }, handlers);
      const replies = [];
      for (const operation of [0, 1, 2]) replies.push((await worker.call({ operation })).body.toString());
      assert.deepEqual(replies, ['entry', 'named', 'other']);
    });

    it('come out of a zip application such as a .pex', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'funcatron-pex-'));
      writeFileSync(join(folder, 'packed.py'), `def handler(context, event): return 'from the archive'`);
      writeFileSync(join(folder, '__main__.py'), '');
      const file = `${folder}.pex`;
      execFileSync('python3', ['-m', 'zipapp', folder, '-o', file]);
      const content = readFileSync(file);
      rmSync(folder, { recursive: true });
      rmSync(file);
      const worker = await workers.start({ 'app.pex': content }, { entry: 'packed:handler', concurrency: 1 });
      assert.equal((await worker.call()).body.toString(), 'from the archive');
    });

    it('share user_data, which init_context fills before the first call', async () => {
      for (const def of ['def', 'async def']) {
        const worker = await start(`
${def} init_context(context):
    context.user_data.n = 40
def handler(context, event):
    context.user_data.n += 1
    return context.user_data.n
`);
        await worker.call();
        assert.equal((await worker.call()).json(), 42);
      }
    });

    it('run side by side when they are async, each with its own log', async () => {
      const worker = await start(
        `
import asyncio
gate = None
async def handler(context, event):
    global gate
    gate = gate or asyncio.Event()
    if event.body == b'open':
        gate.set()
    await gate.wait()
    context.logger.info_with('passed', who=event.body.decode())
    return event.body
`,
        4,
      );
      const bodies = ['a', 'b', 'open'];
      const ids = bodies.map(newIdBytes);
      const calls = bodies.map((body, at) => ({ body, id: ids[at] as Buffer, flags: CallFlag.text }));
      const replies = await worker.callAll(calls);
      assert.deepEqual(
        replies.map(({ body }) => body.toString()),
        bodies,
      );
      for (const [at, body] of bodies.entries()) {
        const line = worker.logs.find(({ fields }) => fields?.['who'] === body);
        assert.equal(line?.callId?.replaceAll('-', ''), ids[at]?.toString('hex'));
      }
    });

    it('refuses concurrency for a handler that is not async', async () => {
      await assert.rejects(start('def handler(context, event): pass', 4), /main:handler is no async def/);
    });
  });

  describe('results', () => {
    const SOURCE = `
import math
def handler(context, event):
    return eval(event.body.decode(), {'context': context, 'math': math})
`;
    const shapes: readonly (readonly [string, unknown[]])[] = [
      ['None', [204, undefined, '']],
      ['"é"', [200, 'text/plain; charset=utf-8', 'é']],
      ['b"ab"', [200, 'application/octet-stream', 'ab']],
      ['{"a": [1, None]}', [200, undefined, '{"a": [1, null]}']],
      ['[1]', [200, undefined, '[1]']],
      ['(404, "gone")', [404, 'text/plain; charset=utf-8', 'gone']],
      ['(201, {"a": 1})', [201, undefined, '{"a": 1}']],
      ['context.Response(body="x", status_code=418, content_type="text/x")', [418, 'text/x', 'x']],
      ['context.Response(body={"a": 1}, headers={"x-a": "b"})', [200, 'application/json', '{"a": 1}']],
      ['context.Response(status_code=304, body="x")', [304, undefined, '']],
    ];
    it('answers every shape a handler may return', async () => {
      const worker = await start(SOURCE);
      for (const [body, expected] of shapes) {
        const reply = await worker.call({ body });
        assert.deepEqual([reply.status, reply.headers['content-type'], reply.body.toString()], expected, body);
      }
    });

    const refused: readonly (readonly [string, string])[] = [
      ['object()', 'INVALID_RESPONSE'],
      ['math.nan', 'INVALID_RESPONSE'],
      ['(1, 2, 3)', 'INVALID_RESPONSE'],
      ['(99, "")', 'INVALID_RESPONSE'],
      ['context.Response(headers={"x-a": "b\\r\\nc: d"})', 'INVALID_RESPONSE'],
      ['context.Response(headers={"a b": "c"})', 'INVALID_RESPONSE'],
      ['context.Response(headers={"x-a": "y" * 40000})', 'INVALID_RESPONSE'],
      ['b"x" * (2 ** 20 + 1)', 'RESPONSE_TOO_LARGE'],
      ['"\\ud800"', 'INVALID_RESPONSE'],
    ];
    it('answers with a code what cannot be sent', async () => {
      const worker = await start(SOURCE);
      for (const [body, code] of refused) {
        const reply = await worker.call({ body });
        const failed = reply.json() as { code: string };
        assert.deepEqual([reply.status, reply.isFailed, failed.code], [502, true, code], body);
      }
    });

    it('hands a megabyte of bytes over unharmed, both ways', async () => {
      const worker = await start('def handler(context, event): return event.body');
      const body = Buffer.alloc(1024 * 1024, Buffer.from([0, 255, 10, 13, 128, 7]));
      const reply = await worker.call({ body, flags: 0, meta: { headers: { 'content-type': 'image/png' } } });
      assert.ok(reply.body.equals(body));
    });

    it('answers FUNC_ERROR when a handler raises, its words in the log only', async () => {
      const worker = await start(`
def handler(context, event):
    raise ValueError('password is 1234')
`);
      const reply = await worker.call();
      assert.deepEqual(reply.json(), { code: 'FUNC_ERROR', message: 'func run threw (ValueError)' });
      const [line] = worker.logs;
      assert.match(line?.message ?? '', /ValueError: password is 1234/);
      assert.match(String(line?.fields?.['stack']), /at handler \(main\.py:3:1\)/);
    });
  });

  describe('logs', () => {
    const SOURCE = `
def handler(context, event):
    context.logger.debug('of %s', 'debug')
    context.logger.info_with('of info', odd=object)
    print('printed')
    if event.body == b'raise':
        raise ValueError('no')
    return 1
`;
    it('have the level of the bundle, or of a call that asks for its own and for its lines back', async () => {
      const files = { 'main.py': SOURCE };
      const worker = await workers.start(files, { entry: 'main:handler', concurrency: 1, logLevel: 'warn' });
      await worker.call();
      await worker.worker.ping();
      assert.deepEqual(worker.logs, []);
      const meta = { log: { level: 'debug', isReturned: true } } as const;
      const reply = await worker.call({ meta });
      const lines = reply.log?.map(({ level, message, fields }) => [level, message, fields]);
      assert.deepEqual(lines, [
        ['debug', 'of debug', undefined],
        ['info', 'of info', { odd: "<class 'object'>" }],
      ]);
      assert.deepEqual([reply.headers['content-type'], reply.json()], ['application/json', 1]);
      const failed = await worker.call({ body: 'raise', meta });
      const { log } = (failed.json() as { data: { log: readonly { message: string }[] } }).data;
      assert.deepEqual(
        log.map(({ message }) => message),
        ['of debug', 'of info', 'func run threw: ValueError: no'],
      );
    });
  });

  describe('deadlines', () => {
    it('does not start a call whose deadline has passed', async () => {
      const worker = await start('def handler(context, event): return 1');
      assert.equal(((await worker.call({ deadlineMs: -1 })).json() as { code: string }).code, 'TIMEOUT');
    });

    it('cancels an async handler at its deadline and when nobody waits any more', async () => {
      const worker = await start(
        `
import asyncio
async def handler(context, event):
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return 'cancelled'
`,
        4,
      );
      assert.equal((await worker.call({ deadlineMs: 50 })).body.toString(), 'cancelled');
      const id = newIdBytes();
      const call = worker.call({ id });
      await worker.worker.ping();
      worker.worker.cancel(id);
      assert.equal((await call).body.toString(), 'cancelled');
    });

    it('does not answer a ping while a handler hangs, by which the runner knows', async () => {
      const worker = await start("def handler(context, event):\n    print('in')\n    while True: pass");
      worker.callAll([{}]).catch(() => undefined);
      await until('it hangs', () => worker.logs.length > 0);
      let answered = false;
      const ping = assert.rejects(worker.worker.ping().finally(() => (answered = true)));
      // Another worker starts and answers meanwhile.
      const other = await start('def handler(context, event): return 1');
      await Promise.all([other.call(), other.worker.ping()]);
      assert.equal(answered, false);
      worker.worker.kill();
      await ping;
      assert.equal((await worker.exited).reason, 'killed');
    });
  });

  describe('what programs do', () => {
    it('makes log lines of what is printed', async () => {
      const worker = await start(`
import os, sys
def handler(context, event):
    print('\\0rubbish é')
    print('on stderr', file=sys.stderr)
    os.write(1, b'\\xff\\n')
    context.logger.warn_with('told', n=1)
    return 1
`);
      assert.equal((await worker.call()).json(), 1);
      await worker.worker.close();
      const lines = worker.logs.map(({ level, message }) => `${level} ${message}`).sort();
      assert.deepEqual(lines, ['info \0rubbish é', 'info \ufffd', 'warn on stderr', 'warn told']);
    });

    it('takes log lines of threads, and ends as an interpreter does when it is closed', async () => {
      const worker = await start(`
import atexit, threading
def handler(context, event):
    threading.Thread(target=lambda: context.logger.info('of a thread')).start()
    atexit.register(print, 'bye')
`);
      assert.equal((await worker.call()).status, 204);
      await until('the line of the thread', () => worker.logs.some(({ message }) => message === 'of a thread'));
      await worker.worker.close();
      assert.equal((await worker.exited).reason, 'closed');
      assert.equal(worker.logs.at(-1)?.message, 'bye');
    });

    it('answers although stdout is closed', async () => {
      const worker = await start('import os\ndef handler(context, event):\n    os.close(1)\n    return 1');
      assert.equal((await worker.call()).json(), 1);
    });

    for (const [what, body] of [
      ['closes its channel', 'os.close(3)'],
      ['writes rubbish to its channel', `os.write(3, b'x' * 99)`],
      ['exits', 'os._exit(3)'],
      ['aborts', 'os.abort()'],
    ]) {
      it(`is gone when a handler ${what}`, async () => {
        const worker = await start(`import os\ndef handler(context, event):\n    ${body}\n    return 1`);
        await assert.rejects(worker.call(), /the worker is gone: crashed/);
        assert.equal((await worker.exited).reason, 'crashed');
      });
    }

    it('is not ended by sys.exit, which is an error of the handler’s', async () => {
      const worker = await start('import sys\ndef handler(context, event): sys.exit(1)');
      assert.equal((await worker.call()).status, 500);
      assert.equal((await worker.call()).status, 500);
    });

    for (const [what, child] of [
      ['that forks', 'time.sleep(600)'],
      ['that starts a daemon', 'os.setsid() if os.fork() == 0 else os._exit(0)\n        time.sleep(600)'],
    ]) {
      it(`is answered once by a handler ${what}, and takes it along`, async () => {
        const worker = await start(`
import os, time
def handler(context, event):
    if os.fork() == 0:
        return 'from the fork'
    if os.fork() == 0:
        ${child}
    return 1
`);
        const before = workers.processes().length;
        assert.equal((await worker.call()).json(), 1);
        await until('the fork runs', () => workers.processes().length > before);
        worker.worker.kill();
        await worker.exited;
        await until('nothing runs any more', () => workers.processes().length === 0);
      });
    }

    it('ends a worker that asks for more memory than its budget, or refuses it', async () => {
      const worker = await start('def handler(context, event): return len(bytearray(10 ** 9))');
      const reply = await worker.call().catch(() => undefined);
      assert.ok(reply === undefined || reply.status === 500, `${reply?.status}`);
    });
  });

  describe('start', () => {
    it('says where a module cannot be loaded, what init_context raised, and what is missing', async () => {
      await assert.rejects(start('x = 1\ndef handler(:\n  pass'), /cannot be loaded: SyntaxError.*\(main\.py:2:\d+\)/);
      await assert.rejects(start('\n1 / 0'), /cannot be loaded: ZeroDivisionError.*\(main\.py:2:1\)/);
      await assert.rejects(start('import nowhere'), /No module named 'nowhere'/);
      await assert.rejects(start('x = 1'), /module main has no function handler/);
      await assert.rejects(
        start('def init_context(context): raise KeyError("db")\ndef handler(context, event): pass'),
        /failed in init: KeyError: 'db' \(main\.py:1:1\)/,
      );
    });
  });
});
