import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { createNodeRuntime } from '../../runner/runtimes/node.ts';
import { describeIsolate } from './isolate-contract.ts';
import { silentLog, WorkerStarter } from './isolate-harness.ts';
import { startStreaming } from './isolate-wire.ts';

/** The `node` runtime, with each source as the entry of a folder of its own. */
function openNodeRuntime(): IsolateKind {
  execFileSync(process.execPath, ['tools/build-inside.mjs']);
  const kind = createNodeRuntime({ log: silentLog });
  return {
    ...kind,
    async start(spec, events) {
      const folder = mkdtempSync(join(tmpdir(), 'funcatron-node-'));
      writeFileSync(join(folder, 'bundle.js'), spec.source);
      try {
        return await kind.start({ ...spec, folder, entry: 'bundle.js' }, events);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}

describeIsolate('node', openNodeRuntime, [
  // `fetch` is Node's own: it asks the permission model, not the runner.
  'performs fetch through the runner',
  'gives the guest an error with the code of what went wrong',
  'aborts an operation that the guest gave up, and all of them when the worker goes',
  'carries 8 MiB back and refuses to send more than that',
  'refuses timers and operations beyond their bounds',
  // An ordinary module requires and imports what it likes.
  'refuses a bundle that requires at run time',
  'refuses import(), however it is spelt, and leaves the word in texts alone',
  // An error that nothing catches ends a Node process: test/integration/runtime-node.test.ts.
  'describes rejections and errors that no call waits for',
  'describes every one of several rejections of one entry',
]);

describe('runner/runtimes/node: streams', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = openNodeRuntime();
  });
  afterEach(() => workers.endAll());
  after(async () => await kind.close?.());

  for (const [what, body] of [
    ['a ReadableStream', "new Blob(['a', 'b']).stream()"],
    ['a Readable', "require('node:stream').Readable.from(['a', 'b'])"],
    [
      'a body piped through a transform',
      "require('node:stream').Readable.from(event.stream()).pipe(new (require('node:stream').PassThrough)())",
    ],
    ['a Response whose body is a stream', "new Response(new Blob(['ab']).stream())"],
  ] as const) {
    it(`sends ${what}`, async () => {
      const worker = await startStreaming(workers, `exports.run = (event) => ${body}`);
      const call = worker.open();
      call.send('a', 'b');
      call.end();
      assert.equal(await call.whole(), 'ab');
      assert.equal(call.ended, 'end');
    });
  }

  it('destroys a Readable when the client hangs up', async () => {
    const worker = await startStreaming(
      workers,
      `const { Readable } = require('node:stream');
      exports.run = () => new Readable({
        read() { this.push(Buffer.alloc(10_000)) },
        destroy(error, done) { console.log('destroyed'); done() },
      })`,
    );
    const call = worker.get();
    call.isReading = false;
    await call.reply;
    call.hangUp();
    await worker.logged('destroyed');
  });
});
