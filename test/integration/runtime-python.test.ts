import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { delay } from '../../core/lifecycle.ts';
import { CallFlag } from '../../core/wire/envelope.ts';
import type { GuestResult } from '../../runner/isolate/isolate.ts';
import { createPythonRuntime } from '../../runner/runtimes/python.ts';
import { RuntimeStarter } from '../contract/runtime-harness.ts';
import { newIdBytes, type WorkerHarness } from '../contract/isolate-harness.ts';
import { needPython } from '../helpers/programs.ts';
import { until } from '../helpers/until.ts';

/** A zip application of these files, as `python3 -m zipapp` makes one. */
function zipapp(files: Readonly<Record<string, string>>): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-pex-'));
  try {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(folder, 'app', dirname(name)), { recursive: true });
      writeFileSync(join(folder, 'app', name), content);
    }
    execFileSync('python3', ['-m', 'zipapp', 'app', '-p', '/usr/bin/env python3', '-o', 'app.pex'], { cwd: folder });
    return readFileSync(join(folder, 'app.pex'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('runner/runtimes/python', () => {
  before(function () {
    needPython(this);
  });
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

    const PACKED = `import greeting\ndef handler(context, event): return greeting.of('the archive')`;
    const GREETING = `def of(name): return 'from ' + name`;

    it('come out of a zip application with its packages, whose __main__.py is not run', async () => {
      const content = zipapp({
        '__main__.py': 'raise SystemExit(3)',
        'packed.py': PACKED,
        'greeting/__init__.py': GREETING,
      });
      const worker = await workers.start({ 'app.pex': content }, { entry: 'packed:handler', concurrency: 1 });
      assert.equal((await worker.call()).body.toString(), 'from the archive');
    });

    it('come out of a file laid out as a .pex: its __pex__ sets up the dependencies in it', async () => {
      const content = zipapp({
        '__main__.py': 'raise SystemExit(3)',
        'PEX-INFO': '{}',
        'packed.py': PACKED,
        '.deps/greeting-1.0-py3-none-any.whl/greeting/__init__.py': GREETING,
        '__pex__/__init__.py': `import os, sys
root = os.path.dirname(os.path.dirname(__file__))
sys.path.append(os.path.join(root, '.deps', 'greeting-1.0-py3-none-any.whl'))`,
      });
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

  describe('services', () => {
    const SERVICES = {
      kv: { type: 'kv' },
      db: { type: 'postgres' },
      cache: { type: 'redis' },
      crm: { type: 'http' },
      'a-bus': { type: 'amqp' },
    };
    const startWith = (source: string, concurrency = 1, perform?: WorkerHarness['perform']): Promise<WorkerHarness> =>
      workers.start(
        { 'main.py': source },
        { entry: 'main:handler', concurrency, services: SERVICES },
        ['run'],
        perform,
      );
    /** What a runner would do, and what it was asked. */
    const answers: Readonly<Record<string, GuestResult>> = {
      'kv.get': { result: { value: '{"n":1}' } },
      'kv.set': { result: {} },
      'kv.delete': { result: { deleted: true } },
      'kv.increment': { result: { value: 3 } },
      'postgres.query': {
        result: {
          fields: [20, 17, 16, 3802, 1700].map((type, at) => ({ name: `c${at}`, type })),
          rows: [
            ['9007199254740993', '\\x00ff', 't', '[1]', '1.50'],
            [null, null, 'f', null, null],
          ],
          rowCount: 2,
        },
      },
      'redis.command': { result: { value: 'pong' } },
      'http.fetch': { result: { status: 201, headers: [['X-A', 'b']] }, bytes: Buffer.from('{"id":7}') },
      'amqp.publish': { result: {} },
      'scope.end': { result: {} },
      invoke: { result: { status: 200, headers: { 'content-type': 'text/plain' } }, bytes: Buffer.from('called') },
    };
    const perform: WorkerHarness['perform'] = ({ name }) => Promise.resolve(answers[name] ?? { result: {} });
    const BODY = `
    kv, db, crm = context.services.kv, context.services.db, context.services.crm
    out = [AWAIT kv.get('k'), AWAIT kv.set('k', {'a': 1}, ttl_ms=5), AWAIT kv.delete('k'), AWAIT kv.incr('n', 2)]
    result = AWAIT db.query('select $1, $2, $3', [b'\\x01', 2 ** 60, {'a': [1]}])
    out += [repr(result.rows), result.row_count, AWAIT context.services.cache.set('a', 1, ttl_ms=9)]
    created = AWAIT crm.fetch('/x', method='post', body={'q': 1})
    out += [created.status_code, created.headers['x-a'], created.json()['id']]
    out += [AWAIT context.services['a-bus'].publish('orders', 'new', {'id': 1}, message_id='m')]
    out += [(AWAIT context.invoke('stock', 'getItem', params={'sku': 'a'}, body=b'raw')).text()]
    return out
`;

    for (const [def, word, concurrency] of [
      ['def', '', 1],
      ['async def', 'await ', 4],
    ] as const) {
      it(`are the runner's, for a handler that is ${def}`, async () => {
        const source = `${def} handler(context, event):${BODY.replaceAll('AWAIT ', word)}`;
        const worker = await startWith(source, concurrency, perform);
        const id = newIdBytes();
        const rows =
          "[{'c0': 9007199254740993, 'c1': b'\\x00\\xff', 'c2': True, 'c3': [1], 'c4': '1.50'}, " +
          "{'c0': None, 'c1': None, 'c2': False, 'c3': None, 'c4': None}]";
        const expected = [{ n: 1 }, null, true, 3, rows, 2, 'pong', 201, 'b', 7, null, 'called'];
        assert.deepEqual((await worker.call({ id })).json(), expected);
        const asked = worker.operations.map(({ name }) => name);
        assert.deepEqual(asked.slice(-2), ['invoke', 'scope.end']);
        const callIds = new Set(worker.operations.map(({ callId }) => callId?.replaceAll('-', '')));
        assert.deepEqual([...callIds], [id.toString('hex')]);
        const argsOf = (name: string): unknown => {
          const { deadline, ...args } = worker.operations.find((each) => each.name === name)?.args ?? {};
          assert.equal(typeof deadline, 'number');
          return args;
        };
        assert.deepEqual(argsOf('kv.set'), { service: 'kv', key: 'k', value: '{"a": 1}', ttlMs: 5 });
        assert.deepEqual(argsOf('postgres.query'), {
          service: 'db',
          sql: 'select $1, $2, $3',
          parameters: ['\\x01', '1152921504606846976', { a: [1] }],
        });
        assert.deepEqual(argsOf('redis.command'), { service: 'cache', words: ['set', 'a', '1', 'px', '9'] });
        assert.deepEqual(argsOf('http.fetch'), {
          service: 'crm',
          url: '/x',
          method: 'POST',
          headers: [['content-type', 'application/json']],
          redirect: 'manual',
        });
        assert.deepEqual(argsOf('amqp.publish'), {
          service: 'a-bus',
          exchange: 'orders',
          key: 'new',
          options: { contentType: 'application/json', messageId: 'm', mandatory: true },
        });
        const invoked = worker.operations.find(({ name }) => name === 'invoke');
        assert.equal(invoked?.bytes.toString(), 'raw');
      });

      it(`fail with their code, and are committed only when it is well (${def})`, async () => {
        const source = `
${def} handler(context, event):
    if event.body == b'quiet':
        return 1
    try:
        ${word}context.services.db.query('select 1')
    except context.ServiceError as error:
        if event.body == b'caught':
            return [error.code, str(error)]
        raise
    if event.body == b'raise':
        raise KeyError('x')
    return (500 if event.body == b'500' else 409, 'x')
`;
        const worker = await startWith(source, concurrency);
        let failing: string | undefined;
        worker.perform = ({ name }) =>
          name === failing
            ? Promise.reject(Object.assign(new Error('no room'), { code: 'SERVICE_BUSY' }))
            : Promise.resolve({ result: { fields: [], rows: [], rowCount: 0 } });
        const outcomes: unknown[] = [];
        for (const body of ['409', 'raise', '500', 'quiet']) {
          const from = worker.operations.length;
          const { status } = await worker.call({ body });
          outcomes.push([status, ...worker.operations.slice(from).map(({ name }) => name)]);
        }
        assert.deepEqual(outcomes, [
          [409, 'postgres.query', 'scope.end'],
          [500, 'postgres.query'],
          [500, 'postgres.query'],
          [200],
        ]);
        failing = 'scope.end';
        assert.equal(((await worker.call({ body: '409' })).json() as { code: string }).code, 'COMMIT_FAILED');
        failing = 'postgres.query';
        assert.deepEqual((await worker.call({ body: 'caught' })).json(), ['SERVICE_BUSY', 'no room']);
        const reply = await worker.call();
        assert.deepEqual([reply.status, (reply.json() as { code: string }).code], [503, 'SERVICE_BUSY']);
      });

      it(`are given up when the call ends before they answer (${def})`, async () => {
        const source = `${def} handler(context, event): return ${word}context.services.kv.get('k')`;
        const worker = await startWith(source, concurrency);
        const signals: AbortSignal[] = [];
        worker.perform = (_request, signal) => {
          signals.push(signal);
          return new Promise(() => undefined);
        };
        assert.equal(((await worker.call({ deadlineMs: 60 })).json() as { code: string }).code, 'TIMEOUT');
        await until('the runner has given it up', () => signals[0]?.aborted === true);
        const id = newIdBytes();
        const call = worker.call({ id });
        await until('it waits', () => signals.length === 2);
        await worker.worker.ping(); // It waits, and does not hang.
        worker.worker.cancel(id);
        assert.notEqual((await call).status, 200);
        await until('the runner has given that up, too', () => signals[1]?.aborted === true);
      });

      it(`can be used in ${def} init_context and destroy_context, which ends the worker`, async () => {
        const source = `
${def} init_context(context):
    context.user_data.found = ${word}context.services.kv.get('k')
${def} handler(context, event): return context.user_data.found
${def} destroy_context(context):
    ${word}context.services.kv.set('ended', True)
    context.logger.info('destroyed')
`;
        const worker = await startWith(source, concurrency, perform);
        assert.deepEqual((await worker.call()).json(), { n: 1 });
        await worker.worker.close();
        assert.equal((await worker.exited).reason, 'closed');
        assert.equal(worker.operations.at(-1)?.name, 'kv.set');
        assert.equal(worker.logs.at(-1)?.message, 'destroyed');
      });
    }

    it('are refused after the call, in other threads, and where they are not declared', async () => {
      const worker = await startWith(`
import asyncio, threading
left = []
async def later(context):
    try:
        await context.services.kv.get('k')
    except context.ServiceError as error:
        left.append(error.code)
async def handler(context, event):
    asyncio.get_running_loop().call_later(0.02, asyncio.ensure_future, later(context))
    def use():
        try:
            context.services.kv.get('k')
        except RuntimeError as error:
            left.append('thread')
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    try:
        context.services.nothing
    except AttributeError as error:
        left.append(str(error))
    return left
`);
      const undeclared = 'there is no service nothing: declare it in x-funcatron.services';
      assert.deepEqual((await worker.call()).json(), ['thread', undeclared]);
      await until('the task that stayed was refused', async () =>
        ((await worker.call()).json() as string[]).includes('CALL_ENDED'),
      );
    });

    it('fail the start when python bundles do not have their type', async () => {
      const files = { 'main.py': 'def handler(context, event): pass' };
      const started = workers.start(files, {
        entry: 'main:handler',
        concurrency: 1,
        services: { db: { type: 'oracle' } },
      });
      await assert.rejects(started, /service db is of type oracle, which python bundles do not have/);
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

    it('cancels an async handler that has not begun, or not even come, at its first await', async () => {
      const worker = await start(
        `
import asyncio, time
async def handler(context, event):
    if event.body == b'busy':
        print('in')
        time.sleep(0.3)
        return 'done'
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return 'cancelled'
`,
        4,
      );
      // The cancel overtakes its call: both leave in one turn.
      const id = newIdBytes();
      const overtaken = worker.call({ id });
      worker.worker.cancel(id);
      assert.equal((await overtaken).body.toString(), 'cancelled');
      // It comes right behind its call: both lie there when the loop of the worker goes on.
      const busy = worker.call({ body: 'busy' });
      await until('it is busy', () => worker.logs.length > 0);
      const later = newIdBytes();
      const waiting = worker.call({ id: later });
      await delay(20);
      worker.worker.cancel(later);
      assert.equal((await waiting).body.toString(), 'cancelled');
      await busy;
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
