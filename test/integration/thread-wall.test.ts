import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findInside } from '../../runner/isolate/process.ts';
import { createThreadIsolate } from '../../runner/isolate/thread.ts';
import { silentLog, specOf, WorkerHarness } from '../contract/isolate-harness.ts';

const attacker = join(import.meta.dirname, '../fixtures/wall/thread.cjs');

describe('the wall around a thread', () => {
  let folder: string;

  before(() => execFileSync(process.execPath, ['tools/build-inside.mjs']));

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-wall-'));
    cpSync(findInside(), folder, { recursive: true });
    copyFileSync(attacker, join(folder, 'thread.cjs'));
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  /** What an attacker may do in a thread of the process that threads share, started as a runner starts it. */
  async function outcomes(): Promise<Record<string, string>> {
    const kind = createThreadIsolate({ log: silentLog, allowWeakIsolation: false, insideDir: folder });
    const server = createServer((socket) => socket.end('HTTP/1.1 204 No Content\r\n\r\n')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const harness = new WorkerHarness();
    try {
      const target = JSON.stringify({ port, file: join(folder, 'written') });
      // Memory for one more thread: else the limit on the process would end it, and hide a door.
      await kind.start(specOf(target, { memoryMb: 1024 }), harness.events);
    } finally {
      await kind.close?.();
      server.close();
    }
    return Object.fromEntries(harness.logs.map(({ message }) => JSON.parse(message) as [string, string]));
  }

  it('holds against an attacker with all of Node in the thread', async () => {
    const results = await outcomes();
    assert.deepEqual(
      Object.entries(results).filter(([, outcome]) => !outcome.startsWith('blocked')),
      [],
    );
    assert.ok(Object.keys(results).length >= 23);
    assert.equal(existsSync(join(folder, 'written')), false);
  });

  it('would have a door if the thread had the arguments of its process', async () => {
    const file = join(folder, 'thread-host.cjs');
    const host = readFileSync(file, 'utf8');
    writeFileSync(file, host.replace('execArgv: threadArgv', 'execArgv: undefined'));
    assert.notEqual(readFileSync(file, 'utf8'), host);
    assert.equal((await outcomes())['freeThread'], 'open');
  });
});
