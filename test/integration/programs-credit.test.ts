import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { CallFlag } from '../../core/wire/envelope.ts';
import { STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES } from '../../runner/isolate/bridge.ts';
import { FrameKind } from '../../runner/isolate/channel.ts';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { createDefaultRuntime } from '../../runner/runtimes/default.ts';
import { createHttpRuntime } from '../../runner/runtimes/http.ts';
import { createPythonRuntime } from '../../runner/runtimes/python.ts';
import { newIdBytes, type TestCall, type TestReply, type WorkerHarness } from '../contract/isolate-harness.ts';
import { type Files, RuntimeStarter } from '../contract/runtime-harness.ts';
import { needPython, processesWith } from '../helpers/programs.ts';
import { until } from '../helpers/until.ts';

const MARKER = `marker-credit-${process.pid}`;

const program = (name: string): Files => ({ [name]: readFileSync(`test/fixtures/programs/${name}`) });

interface Runtime {
  readonly create: (options: { log: Parameters<typeof createPythonRuntime>[0]['log'] }) => IsolateKind;
  readonly entry: string;
  readonly files: Files;
}

const RUNTIMES: Readonly<Record<string, Runtime>> = {
  http: { create: createHttpRuntime, entry: 'perl stream.pl', files: program('stream.pl') },
  default: { create: createDefaultRuntime, entry: `perl stream-once.pl ${MARKER}`, files: program('stream-once.pl') },
  python: {
    create: createPythonRuntime,
    entry: 'main:handler',
    files: {
      'main.py': `
import asyncio
def endless():
    while True: yield b'x' * 50_000
async def handler(context, event):
    if event.path.endswith('endless'): return endless()
    await asyncio.sleep(1000)
`,
    },
  },
};

/** The stream of one call, as the runner sees it. */
class Stream {
  readonly id = newIdBytes();
  readonly reply: Promise<TestReply>;
  receivedBytes = 0;
  text = '';
  credit = 0;
  last: number | undefined;
  readonly #harness: WorkerHarness;

  constructor(harness: WorkerHarness, path: string, call: TestCall) {
    this.#harness = harness;
    harness.onStream = (kind, payload) => {
      if (!payload.subarray(0, 16).equals(this.id)) return;
      const data = payload.subarray(16);
      if (kind === FrameKind.streamData) {
        this.receivedBytes += data.length;
        this.text += data.toString();
      } else if (kind === FrameKind.streamCredit) this.credit += data.readUInt32BE(0);
      else this.last = kind;
    };
    this.reply = harness.call({ ...call, id: this.id, meta: { method: 'POST', path: `/any/${path}`, ...call.meta } });
  }

  push(data: Buffer): void {
    this.#harness.worker.stream(FrameKind.streamData, this.id, data);
  }

  give(bytes: number): void {
    const credit = Buffer.alloc(4);
    credit.writeUInt32BE(bytes);
    this.#harness.worker.stream(FrameKind.streamCredit, this.id, credit);
  }
}

for (const [name, { create, entry, files }] of Object.entries(RUNTIMES)) {
  describe(`credit of bodies, runtime ${name}`, function () {
    this.timeout(20_000);
    const workers = new RuntimeStarter(create);
    before(function () {
      if (name === 'python') needPython(this);
    });
    afterEach(() => workers.endAll());

    const start = (): Promise<WorkerHarness> =>
      workers.start(files, {
        entry,
        concurrency: 1,
        operations: [{ operationId: 'run', handler: 'run', isDirect: true }],
      });

    it('is all that is sent of an answer, to the byte', async () => {
      const stream = new Stream(await start(), 'endless', { flags: CallFlag.fetches });
      assert.equal((await stream.reply).status, 200);
      let given = STREAM_CREDIT_BYTES;
      for (const more of [300_000, 1, 0]) {
        await until('the credit is used', () => stream.receivedBytes >= given);
        assert.equal(stream.receivedBytes, given);
        if (more > 0) stream.give(more);
        given += more;
      }
    });

    it('is not given for what nobody reads', async () => {
      const flags = CallFlag.fetches | CallFlag.direct;
      const stream = new Stream(await start(), 'deaf', { flags, deadlineMs: 500 });
      for (let sent = 0; sent < STREAM_CREDIT_BYTES; sent += STREAM_FRAME_BYTES)
        stream.push(Buffer.alloc(STREAM_FRAME_BYTES));
      await stream.reply;
      assert.ok(stream.credit < STREAM_CREDIT_BYTES, `${stream.credit} bytes`);
    });
  });
}

describe('what a program of runtime default wrote before it ended', () => {
  const workers = new RuntimeStarter(createDefaultRuntime);
  afterEach(() => workers.endAll());

  it('is not lost to a client that reads it later', async () => {
    const { entry, files } = RUNTIMES['default'] as Runtime;
    const harness = await workers.start(files, { entry, concurrency: 2 });
    const bytes = STREAM_CREDIT_BYTES + 100_000;
    const stream = new Stream(harness, 'long', {
      flags: CallFlag.fetches,
      meta: { path: '/any/long', query: { bytes } },
    });
    await stream.reply;
    await until('the program has ended', () => processesWith(MARKER).length === 0);
    // Takes longer than pipes of a program that has ended are kept when nothing comes out of them.
    await harness.call({ meta: { path: '/any/json' } });
    assert.equal(stream.receivedBytes, STREAM_CREDIT_BYTES);
    stream.give(STREAM_CREDIT_BYTES);
    await until('it has ended', () => stream.last !== undefined);
    assert.deepEqual([stream.receivedBytes, stream.last], [bytes, FrameKind.streamEnd]);
  });
});

describe('what a generator of runtime python asks for while it makes a body', () => {
  const workers = new RuntimeStarter(createPythonRuntime);
  before(function () {
    needPython(this);
  });
  afterEach(() => workers.endAll());

  for (const [kind, body] of [
    ['plain', "def handler(context, event):\n    yield context.services.cache.get('a')"],
    ['async', "async def handler(context, event):\n    yield await context.services.cache.get('a')"],
  ] as const) {
    it(`is given to it by services, as in init_context, and not by invoke (${kind})`, async () => {
      const wait = kind === 'async' ? 'await ' : '';
      const source = `${body}
    try:
        ${wait}context.invoke('other', 'op')
    except context.ServiceError as error:
        yield error.code
`;
      const services = { cache: { type: 'kv' } };
      const options = { entry: 'main:handler', concurrency: 1, services };
      const harness = await workers.start({ 'main.py': source }, options, ['handler'], () =>
        Promise.resolve({ result: { value: '"kept;"' } }),
      );
      const stream = new Stream(harness, 'any', { flags: CallFlag.fetches });
      await until('it has ended', () => stream.last !== undefined);
      assert.equal(stream.text, 'kept;CALL_ENDED');
      assert.deepEqual(
        harness.operations.map((request) => [request.name, request.callId, request.args['deadline']]),
        [['kv.get', undefined, undefined]],
      );
    });
  }
});
