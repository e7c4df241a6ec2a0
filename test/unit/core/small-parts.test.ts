import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClusterClock } from '../../../core/clock.ts';
import { FuncatronError } from '../../../core/errors.ts';
import { formatId, ID_BYTES, newId, parseId, writeId } from '../../../core/id.ts';
import { delay, ServiceStack, within } from '../../../core/lifecycle.ts';
import { createLog } from '../../../core/log.ts';
import { compareEpochs } from '../../../core/wire/control.ts';

describe('core/id', () => {
  it('writes version 7 ids with the time in front and a counter behind', () => {
    const bytes = Buffer.alloc(ID_BYTES * 2);
    const first = writeId(bytes, 0, 0x0193a0b1c2d3);
    const second = writeId(bytes, ID_BYTES, 0x0193a0b1c2d3);
    assert.equal(second, (first + 1) >>> 0);
    assert.match(formatId(bytes, 0), /^0193a0b1-c2d3-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(bytes.readUInt32BE(12), first);
  });

  it('reads back what it formats, and nothing else', () => {
    const id = newId();
    assert.equal(formatId(parseId(id) ?? Buffer.alloc(16), 0), id);
    for (const text of ['', 'x', id.slice(1), `${id}0`, id.replace('-', '')]) assert.equal(parseId(text), undefined);
  });

  it('makes no id twice', () => {
    assert.equal(new Set(Array.from({ length: 5_000 }, newId)).size, 5_000);
  });
});

describe('core/clock', () => {
  it('counts clocks that differ by less than a message takes as equal', () => {
    const clock = new ClusterClock();
    clock.observe(1_000, 1_015);
    assert.equal(clock.offsetMs, 0);
  });

  it('takes the least late of the last stamps as the offset, ahead or behind', () => {
    const ahead = new ClusterClock();
    for (const delayMs of [900, 3, 40]) ahead.observe(0, 5_000 + delayMs);
    assert.equal(ahead.offsetMs, 5_003);
    const behind = new ClusterClock();
    for (const delayMs of [900, 3, 40]) behind.observe(5_000, delayMs);
    assert.equal(behind.offsetMs, -4_997);
  });

  it('notices a clock that was set, after a dozen stamps', () => {
    const clock = new ClusterClock();
    for (let stamp = 0; stamp < 12; stamp++) clock.observe(0, 0);
    for (let stamp = 0; stamp < 12; stamp++) clock.observe(0, 60_000);
    assert.equal(clock.offsetMs, 60_000);
  });
});

describe('core/log', () => {
  it('shows where an error was thrown, but not of a broker or a store that is away', () => {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-log-'));
    const file = join(folder, 'log');
    const fd = openSync(file, 'w');
    try {
      const log = createLog({ level: 'info', role: 'test', fd });
      log.warn({ err: new FuncatronError('STORE_DOWN', 'no store', { cause: new Error('refused') }) }, 'trying again');
      log.warn({ err: new FuncatronError('INTERNAL', 'a defect') }, 'failed');
      const lines = readFileSync(file, 'utf8').trim().split('\n');
      const [down, defect] = lines.map((line) => JSON.parse(line) as { err: Record<string, unknown> });
      assert.deepEqual(down?.err, { code: 'STORE_DOWN', message: 'no store' });
      assert.match(String(defect?.err['stack']), /small-parts\.test/);
    } finally {
      closeSync(fd);
      rmSync(folder, { recursive: true });
    }
  });
});

describe('core/lifecycle', () => {
  it('closes in reverse, closes all even when one fails, and closes once', async () => {
    const closed: string[] = [];
    const stack = new ServiceStack();
    const service = (name: string, fails = false) => ({
      close: async () => {
        closed.push(name);
        await delay(1);
        if (fails) throw new Error(`${name} stuck`);
      },
    });
    stack.push('a', service('a'));
    stack.push('b', service('b', true));
    stack.push('c', service('c'));
    const first = stack.close();
    assert.equal(stack.close(), first);
    await assert.rejects(first, AggregateError);
    assert.deepEqual(closed, ['c', 'b', 'a']);
  });

  it('gives up on a close that takes longer than its step', async () => {
    const stack = new ServiceStack(5);
    stack.push('stuck', { close: () => new Promise(() => {}) });
    await assert.rejects(stack.close(), AggregateError);
  });

  it('stops waiting when the signal aborts, and never rejects', async () => {
    const stop = new AbortController();
    const waiting = delay(1_000_000, stop.signal);
    stop.abort();
    await waiting;
    await delay(1_000_000, stop.signal);
    await assert.rejects(within(new Promise(() => {}), 1, 'too late'), /too late/);
  });
});

describe('core/wire/control', () => {
  it('orders epochs by term, then by number', () => {
    assert.ok(compareEpochs('2.1', '1.9') > 0);
    assert.ok(compareEpochs('1.9', '1.10') < 0);
    assert.equal(compareEpochs('3.4', '3.4'), 0);
  });
});
