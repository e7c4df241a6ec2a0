import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FrameKind } from '../../runner/isolate/channel.ts';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { createProcessIsolate } from '../../runner/isolate/process.ts';
import { silentLog, specOf, WorkerHarness } from '../contract/isolate-harness.ts';
import { until } from '../helpers/until.ts';

function frame(kind: number, payload: Buffer | string): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(Buffer.byteLength(payload));
  header[4] = kind;
  return Buffer.concat([header, Buffer.from(payload as string)]);
}

function operation(json: string): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(1, 0);
  head.writeUInt32BE(json.length, 4);
  return Buffer.concat([head, Buffer.from(json)]);
}

const longFrame = Buffer.from([0xff, 0xff, 0xff, 0xff, FrameKind.log]);

describe('a worker whose process was taken over', () => {
  let folder: string;
  let kind: IsolateKind;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-stranger-'));
    copyFileSync(join(import.meta.dirname, '../fixtures/stranger/host.cjs'), join(folder, 'host.cjs'));
    for (const name of ['guest.js', 'guest.cache', 'parse.cjs']) writeFileSync(join(folder, name), '');
    kind = createProcessIsolate({ log: silentLog, allowWeakIsolation: false, insideDir: folder });
  });
  after(() => rmSync(folder, { recursive: true }));

  const start = async (): Promise<WorkerHarness> => {
    const harness = new WorkerHarness();
    harness.worker = await kind.start(specOf(''), harness.events);
    return harness;
  };

  for (const [what, bytes] of [
    ['an unknown frame', frame(200, '')],
    ['a frame of 4 GiB', longFrame],
    ['replies without a tag', frame(FrameKind.replies, 'ab')],
    ['replies that are no envelope', frame(FrameKind.replies, '0000nonsense')],
    ['a log that is no JSON', frame(FrameKind.log, '[')],
    ['a log that is no list', frame(FrameKind.log, '{}')],
    ['a log of nulls', frame(FrameKind.log, '[null]')],
    ['an operation without a length', frame(FrameKind.op, 'ab')],
    ['an operation that is no JSON', frame(FrameKind.op, operation('{'))],
    ['an operation without a name', frame(FrameKind.op, operation('{"args":{}}'))],
    ['an operation twice', Buffer.concat([1, 2].map(() => frame(FrameKind.op, operation('{"name":"x","args":{}}'))))],
    ['a frame of the runner’s', frame(FrameKind.load, '')],
    ['the end of its channel', Buffer.alloc(0)],
  ] as const) {
    it(`is killed when it sends ${what}`, async () => {
      const harness = await start();
      harness.perform = () => new Promise(() => undefined);
      harness.worker.send(1, bytes, 0);
      const exit = await harness.exited;
      assert.equal(exit.reason, 'crashed');
      await assert.rejects(harness.worker.ping(), { code: 'FUNC_CRASHED' });
    });
  }

  it('may send cancels, pongs and a second ready that mean nothing', async () => {
    const harness = await start();
    const harmless = [
      frame(FrameKind.cancel, 'abcdefg'),
      frame(FrameKind.pong, ''),
      frame(FrameKind.ready, ''),
      frame(FrameKind.hello, ''),
    ];
    const line = frame(FrameKind.log, '[{"level":"shout","message":{"a":1},"time":"x","callId":7,"fields":[1]}]');
    harness.worker.send(1, Buffer.concat([...harmless, line]), 0);
    await until('the line', () => harness.logs.length === 1);
    const [{ time, ...rest } = { time: 0 }] = harness.logs;
    assert.equal(typeof time, 'number');
    assert.deepEqual(rest, { level: 'info', message: '[object Object]' });
    harness.worker.kill();
    assert.equal((await harness.exited).reason, 'killed');
  });

  it('cannot make the runner wait for ever: what it never says times out', async () => {
    writeFileSync(join(folder, 'host.cjs'), 'setInterval(() => {}, 1000)');
    await assert.rejects(kind.start(specOf('', { startTimeoutMs: 300 }), new WorkerHarness().events), {
      code: 'DEPLOY_FAILED',
      message: /longer than 300 ms/,
    });
  });
});
