import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FuncatronError } from '../../core/errors.ts';
import { createDefaultRuntime } from '../../runner/runtimes/default.ts';
import { createHttpRuntime } from '../../runner/runtimes/http.ts';
import { findProgramWalls } from '../../runner/runtimes/program-walls.ts';
import type { IsolateKind, WorkerSpec } from '../../runner/isolate/isolate.ts';
import { silentLog, specOf, type TestCall, type TestReply, WorkerHarness } from '../contract/isolate-harness.ts';
import { processesWith } from '../helpers/programs.ts';
import { until } from '../helpers/until.ts';

const MiB = 1024 * 1024;

function codeOf(reply: TestReply): unknown {
  return reply.isFailed ? (reply.json() as { code: string }).code : reply.status;
}

describe('programs that misbehave', function () {
  this.timeout(30_000);
  let folder = '';
  let marker = '';
  let harnesses: WorkerHarness[] = [];
  const http = createHttpRuntime({ log: silentLog });
  const once = createDefaultRuntime({ log: silentLog });

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-programs-'));
    cpSync('test/fixtures/programs', folder, { recursive: true });
    for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o555);
  });
  after(async () => {
    await Promise.all([http.close?.(), once.close?.()]);
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    marker = `marker-${randomBytes(8).toString('hex')}`;
  });
  afterEach(async () => {
    for (const { worker } of harnesses) worker.kill();
    await Promise.all(harnesses.map(({ exited }) => exited));
    harnesses = [];
    await until('nothing it started is left', () => processesWith(marker).length === 0);
  });

  async function start(kind: IsolateKind, entry: string, overrides: Partial<WorkerSpec> = {}): Promise<WorkerHarness> {
    const harness = new WorkerHarness();
    const spec = specOf('', { folder, entry: `${entry} ${marker}`, concurrency: 1, ...overrides });
    harness.worker = await kind.start(spec, harness.events);
    harnesses.push(harness);
    return harness;
  }
  const ask = (path: string, call: TestCall = {}): TestCall => ({
    meta: { method: 'POST', path: `/${path}` },
    ...call,
  });

  describe('of runtime http', () => {
    const serve = (overrides?: Partial<WorkerSpec>): Promise<WorkerHarness> => start(http, './serve.pl', overrides);

    it('carries 1 MiB of any bytes both ways, call after call in one program', async () => {
      const harness = await serve();
      const { pid } = harness.worker;
      for (const bytes of [0, 1, 65_536, MiB]) {
        const body = randomBytes(bytes);
        const reply = await harness.call(ask('', { body }));
        assert.equal(codeOf(reply), 200);
        assert.ok(reply.body.equals(body), `${bytes} bytes`);
      }
      assert.equal(harness.worker.pid, pid);
      assert.equal((await harness.call(ask('chunked'))).body.toString(), 'abcde');
    });

    it('answers calls that come together one after the other', async () => {
      const harness = await serve();
      const replies = await harness.callAll(['a', 'b', 'c'].map((body) => ask('', { body })));
      assert.deepEqual(
        replies.map(({ body }) => body.toString()),
        ['a', 'b', 'c'],
      );
    });

    it('makes log lines of stderr, with the call they belong to', async () => {
      const harness = await serve();
      await harness.call(ask('one'));
      await until('the line is there', () => harness.logs.length > 0);
      const [line] = harness.logs;
      assert.deepEqual([line?.message, line?.operationId, line?.callId?.length], ['asked for one', 'run', 36]);
    });

    it('answers 502 INVALID_RESPONSE to rubbish, without showing it, and has a new program', async () => {
      const harness = await serve();
      const reply = await harness.call(ask('rubbish'));
      assert.equal(codeOf(reply), 'INVALID_RESPONSE');
      assert.doesNotMatch(reply.body.toString(), /what do you want/);
      assert.equal((await harness.call(ask('', { body: 'again' }))).body.toString(), 'again');
    });

    it('has a new program when more than a response comes, or anything between two', async () => {
      const harness = await serve();
      assert.match(String(codeOf(await harness.call(ask('twice')))), /^(200|INVALID_RESPONSE)$/);
      await until('the program is replaced', async () => {
        const reply = await harness.call(ask('', { body: 'again' }));
        return reply.body.toString() === 'again';
      });
    });

    it('answers RESPONSE_TOO_LARGE to a length beyond the limit, and INVALID_RESPONSE to output without end', async () => {
      const huge = await serve();
      assert.equal(codeOf(await huge.call(ask('huge'))), 'RESPONSE_TOO_LARGE');
      const endless = await serve();
      assert.equal(codeOf(await endless.call(ask('endless'))), 'INVALID_RESPONSE');
    });

    it('ends with what it said last when the program exits during a call', async () => {
      const exits = await serve();
      await assert.rejects(exits.call(ask('exits')), /the worker is gone/);
      const exit = await exits.exited;
      assert.deepEqual([exit.reason, exit.detail], ['crashed', 'it ended with exit code 3: last words']);
    });

    it('answers 502 FUNC_CRASHED when the program closes its stdout and goes on, and has a new program', async () => {
      const harness = await serve();
      assert.equal(codeOf(await harness.call(ask('closes'))), 'FUNC_CRASHED');
      assert.equal((await harness.call(ask('', { body: 'again' }))).body.toString(), 'again');
    });

    it('answers 504 TIMEOUT at the deadline, and has a new program', async () => {
      const harness = await serve();
      const reply = await harness.call(ask('hangs', { deadlineMs: 300 }));
      assert.equal(codeOf(reply), 'TIMEOUT');
      assert.equal((await harness.call(ask('', { body: 'again' }))).body.toString(), 'again');
    });

    it('does not give a program a call whose deadline has passed', async () => {
      const harness = await serve();
      assert.equal(codeOf(await harness.call(ask('exits', { deadlineMs: -1 }))), 'TIMEOUT');
      assert.equal(codeOf(await harness.call(ask('', { body: 'x' }))), 200);
    });

    it('is killed with what it forked', async () => {
      const harness = await serve();
      await assert.rejects(harness.call(ask('forks')), /the worker is gone/);
      await until('the fork is gone', () => processesWith(marker).length === 0);
    });

    it('is killed with a daemon that left its session, where there are process namespaces', async function () {
      const { catchesDaemons } = await findProgramWalls();
      if (!catchesDaemons) this.skip();
      const harness = await serve();
      await assert.rejects(harness.call(ask('daemon')), /the worker is gone/);
      await until('the daemon is gone', () => processesWith(marker).length === 0);
    });

    it('gets no more memory than its budget', async () => {
      const harness = await serve({ memoryMb: 64 });
      await assert.rejects(harness.call(ask('eats')), /the worker is gone/);
      assert.equal((await harness.exited).reason, 'crashed');
    });

    it('ends by itself when its stdin ends, and is not called crashed', async () => {
      const harness = await serve();
      await harness.worker.close();
      assert.equal((await harness.exited).reason, 'closed');
    });

    for (const [what, file, content, message, hint] of [
      ['has no interpreter', 'a', 'echo hi\n', /\.\/a is no program/, /begin with #!/],
      [
        'has one that is not here',
        'b',
        '#!/no/such\n',
        /run by "\/no\/such", which is not here/,
        /install that on the runner/,
      ],
      ['was written on Windows', 'c', '#!/bin/sh\r\n', /run by "\/bin\/sh\\r", which is not here/, /line ends/],
      [
        'greets on stdout',
        'd',
        '#!/bin/sh\necho hello; cat\n',
        /without being asked: "hello\\n"/,
        /stdout is for responses/,
      ],
      [
        'fails at once',
        'e',
        '#!/bin/sh\necho one >&2; echo two >&2; exit 9\n',
        /exit code 9: two\none\ntwo$/,
        /reads requests/,
      ],
    ] as const) {
      it(`is a failed deploy that says what to do when the program ${what}`, async () => {
        writeFileSync(join(folder, file), content);
        chmodSync(join(folder, file), content.startsWith('#!') ? 0o555 : 0o444);
        // Homes keep the files they were laid out with.
        await http.close?.();
        const started = start(http, `./${file}`, { revision: file.repeat(12) });
        await assert.rejects(started, (error) => {
          assert.ok(error instanceof FuncatronError);
          assert.equal(error.code, 'DEPLOY_FAILED');
          assert.match(error.message, message);
          assert.match(error.data.hint ?? '', hint);
          return true;
        });
      });
    }

    it('is a failed deploy when the program ends at once or is not there', async () => {
      const unproven = { revision: 'ffffffffffff' };
      await assert.rejects(start(http, `sh -c 'echo no such luck >&2; exit 4' x`, unproven), {
        code: 'DEPLOY_FAILED',
        message: /exit code 4: no such luck/,
      });
      await assert.rejects(start(http, './missing'), { code: 'DEPLOY_FAILED', message: /no program \.\/missing/ });
      await assert.rejects(start(http, 'no-such-interpreter x'), { code: 'DEPLOY_FAILED' });
    });
  });

  describe('of runtime default', () => {
    const run = (overrides?: Partial<WorkerSpec>): Promise<WorkerHarness> => start(once, './once.pl', overrides);

    it('carries 1 MiB of any bytes both ways', async () => {
      const harness = await run();
      const body = randomBytes(MiB);
      const reply = await harness.call(ask('', { body }));
      assert.ok(reply.body.equals(body));
      assert.deepEqual([reply.status, reply.headers['content-type']], [200, 'application/octet-stream']);
    });

    it('answers 204 where nothing is written, and JSON as JSON', async () => {
      const harness = await run();
      assert.equal((await harness.call(ask('none'))).status, 204);
      assert.equal((await harness.call(ask('json'))).headers['content-type'], 'application/json');
    });

    it('minds no program that does not read its stdin', async () => {
      const harness = await run();
      const reply = await harness.call(ask('deaf', { body: randomBytes(MiB) }));
      assert.equal(reply.body.toString(), 'I did not listen');
    });

    it("knows the call from its environment, and nothing of the runner's", async () => {
      process.env['FUNCATRON_BROKER_URL_PROBE'] = 'amqp://secret@broker';
      const harness = await run({ config: { GREETING: 'hi' } });
      const meta = { method: 'GET', path: '/env', headers: { 'x-a': 'b' }, query: { q: '1' } };
      const text = (await harness.call({ meta })).body.toString();
      delete process.env['FUNCATRON_BROKER_URL_PROBE'];
      assert.doesNotMatch(text, /secret/);
      for (const line of ['FN_METHOD=GET', 'FN_HEADER_X_A=b', 'FN_PATH=/env', 'GREETING=hi', 'FN_FORMAT=default']) {
        assert.ok(text.split('\n').includes(line), line);
      }
      assert.match(text, /^FN_REQUEST_URL=http:\/\/localhost\/env\?q=1$/m);
      assert.match(text, /^FN_DEADLINE=\d{4}-\d\d-\d\dT[\d:.]+Z$/m);
    });

    it('answers 502 to an exit code, with the end of stderr in the log and not in the answer', async () => {
      const harness = await run();
      const reply = await harness.call(ask('fails'));
      assert.deepEqual([codeOf(reply), reply.status], ['FUNC_CRASHED', 502]);
      assert.doesNotMatch(reply.body.toString(), /reason|half/);
      const line = harness.logs.find(({ level }) => level === 'error');
      assert.deepEqual(
        [line?.message, line?.fields],
        ['the program failed: it ended with exit code 7', { stderr: 'the reason' }],
      );
      assert.ok(harness.logs.some(({ message, callId }) => message === 'the reason' && callId === line?.callId));
      assert.equal(codeOf(await harness.call(ask('dies'))), 'FUNC_CRASHED');
      assert.equal(codeOf(await harness.call(ask('', { body: 'still here' }))), 200);
    });

    it('answers 504 at the deadline and kills the program, and RESPONSE_TOO_LARGE to output without end', async () => {
      const harness = await run();
      assert.equal(codeOf(await harness.call(ask('hangs', { deadlineMs: 300 }))), 'TIMEOUT');
      await until('the program is gone', () => processesWith(marker).length === 0);
      assert.equal(codeOf(await harness.call(ask('huge'))), 'RESPONSE_TOO_LARGE');
    });

    it('kills the program of a call nobody waits for', async () => {
      const harness = await run();
      const id = randomBytes(16);
      const call = harness.call(ask('hangs', { id }));
      await until('the program runs', () => processesWith(marker).length > 0);
      harness.worker.cancel(id);
      assert.equal(codeOf(await call), 'TIMEOUT');
    });

    it('is done when the program is, and kills what it left behind', async () => {
      const harness = await run();
      const reply = await harness.call(ask('forks'));
      assert.equal(reply.body.toString(), 'left one behind');
      await until('the fork is gone', () => processesWith(marker).length === 0);
    });
  });
});
