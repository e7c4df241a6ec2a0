import assert from 'node:assert/strict';
import { FrameKind } from '../../../runner/isolate/channel.ts';
import { LogLines } from '../../../runner/isolate/host/log-lines.ts';
import { WorkerLog } from '../../../runner/isolate/worker-log.ts';

const text = 'x'.repeat(8_000);
const line = JSON.stringify({ time: 1, level: 'info', message: text, fields: { text } });

describe('runner/isolate/worker-log', () => {
  it('gets a flood of lines in frames of 64 KiB, every line once', () => {
    const frames: Buffer[] = [];
    const lines = new LogLines({
      send(kind, ...parts) {
        assert.equal(kind, FrameKind.log);
        frames.push(Buffer.concat(parts));
      },
      backlogBytes: () => 0,
    });
    for (let count = 0; count < 100; count++) lines.push(line);
    lines.flush();
    assert.ok(frames.length > 10 && frames.every(({ length }) => length <= 66 * 1024));
    const messages: string[] = [];
    const log = new WorkerLog({ onLog: ({ message }) => messages.push(message) }, (stack) => stack);
    for (const frame of frames) log.write(frame);
    assert.deepEqual(messages, Array<string>(100).fill(text));
  });

  it('drops a frame longer than a host sends without parsing it, and says so with the next line', () => {
    const dropped: (number | undefined)[] = [];
    const log = new WorkerLog({ onLog: (each) => dropped.push(each.dropped) }, (stack) => stack);
    // No JSON: parsed, it would throw.
    log.write(Buffer.alloc(1024 * 1024, '['));
    log.write(Buffer.from(`[${line}]`));
    assert.deepEqual(dropped, [1]);
  });
});
