import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync, copyFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { findWalls, launch, limitMemory, readMemory } from '../../runner/isolate/launch.ts';
import { until } from '../helpers/until.ts';

const fixtures = join(import.meta.dirname, '..', 'fixtures', 'wall');

function isAlive(pid: number): boolean {
  try {
    // A zombie is dead: its parent has only not looked yet.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('the wall around a worker', () => {
  it('holds against an attacker with all of Node in the worker’s process', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-wall-'));
    const server = createServer((socket) => socket.end('HTTP/1.1 204 No Content\r\n\r\n')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      copyFileSync(join(fixtures, 'host.cjs'), join(folder, 'host.cjs'));
      for (const name of ['guest.js', 'guest.cache', 'parse.cjs']) writeFileSync(join(folder, name), '');
      const child = launch(await findWalls(), folder, 64, 10);
      const channel = child.stdio[3];
      assert.ok(channel instanceof Socket);
      const file = join(folder, 'written');
      channel.write(JSON.stringify({ port: (server.address() as AddressInfo).port, file }));
      const results = JSON.parse(await text(channel)) as Record<string, string>;
      const open = Object.entries(results).filter(([, outcome]) => !outcome.startsWith('blocked'));
      assert.deepEqual(open, []);
      assert.ok(Object.keys(results).length >= 21);
      assert.equal(existsSync(file), false);
    } finally {
      server.close();
      rmSync(folder, { recursive: true });
    }
  });

  it('leaves an attacker in the host’s realm no way to modules or to the runner on process', async () => {
    const lock = join(import.meta.dirname, '../../runner/isolate/host/lock.ts');
    const script = `const out = process.stdout; const { lockProcess } = await import(${JSON.stringify(lock)}); lockProcess();
      out.write(JSON.stringify(['kill', '_kill', 'binding', 'dlopen', 'execve', 'getBuiltinModule', 'mainModule'].map((name) => typeof process[name])));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.deepEqual(
      JSON.parse(await text(child.stdout)),
      Array.from({ length: 7 }, () => 'undefined'),
    );
  });

  it('leaves no process behind when the runner is killed while a worker loops', async () => {
    const runner = spawn(process.execPath, [join(fixtures, 'runner.ts')], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(runner.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    assert.ok(pid > 0, 'the worker does not loop');
    assert.ok(isAlive(pid));
    runner.kill('SIGKILL');
    await until('the worker is gone', () => !isAlive(pid));
  });

  it('leaves no process behind when the runner is killed while a pool waits for workers', async () => {
    const script = join(fixtures, '../pool/runner.ts');
    const runner = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(runner.stdout, 'data')) as [Buffer];
    const pids = JSON.parse(line.toString()) as number[];
    assert.equal(pids.length, 3);
    assert.ok(pids.every(isAlive));
    runner.kill('SIGKILL');
    await until('all are gone', () => !pids.some(isAlive));
  });

  it('limits the data of a process to what it has and its budget', async function () {
    const walls = await findWalls();
    if (walls.prlimit === undefined) this.skip();
    const child = spawn(process.execPath, ['-e', 'process.stdin.resume(); console.log(1)'], { stdio: 'pipe' });
    try {
      await once(child.stdout, 'data');
      const pid = child.pid ?? 0;
      const before = readMemory(pid)?.dataBytes ?? 0;
      await limitMemory(walls, pid, 100);
      const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
      const data = Number(/^Max data size\s+(\d+)/m.exec(limits)?.[1]);
      assert.ok(data > before && data < before + 200 * 2 ** 20, `${data} with ${before}`);
      assert.match(limits, /^Max core file size\s+0/m);
    } finally {
      child.kill();
      await once(child, 'exit');
    }
  });
});
