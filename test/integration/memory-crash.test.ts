import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openMemoryBroker } from '../../core/broker/memory.ts';
import { createLog } from '../../core/log.ts';
import { until } from '../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/broker/memory and its journal', () => {
  let folder: string;
  let file: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'funcatron-journal-'));
    file = join(folder, 'broker.db');
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('loses no accepted event when its process is killed at any moment, and forgets what was acknowledged', async function () {
    this.timeout(60_000);
    let first = 1;
    for (let round = 0; round < 6; round++) {
      const killed = await killedPublisher(file, first, 20 + Math.floor(Math.random() * 1_500));
      first = killed.nextId;
      const came = new Map<number, { redelivered: boolean; bytes: number }>();
      const broker = await openMemoryBroker({ file, log });
      for (let next = await broker.take('events'); next !== undefined; next = await broker.take('events')) {
        const id = Number(next.properties.messageId);
        assert.equal(came.has(id), false, `${id} came twice`);
        assert.deepEqual(next.properties.headers, { id });
        came.set(id, { redelivered: next.redelivered, bytes: next.body.length });
      }
      await broker.close();
      for (const id of killed.accepted) {
        if (killed.acknowledged.has(id)) continue;
        assert.deepEqual(came.get(id), { redelivered: true, bytes: id % 5_000 }, `${id} was accepted`);
      }
      for (const id of killed.forgotten) assert.equal(came.has(id), false, `${id} was acknowledged`);
      assert.ok(killed.accepted.length > 0);
    }
  });

  it('starts from what a killed process left, with consumers declared later, and ends clean', async () => {
    const killed = await killedPublisher(file, 1, 200);
    let broker = await openMemoryBroker({ file, log });
    const before = (await broker.probe('events'))?.messages;
    assert.ok(before !== undefined && before > 0);
    await broker.publish(event('after'));
    await broker.close();
    broker = await openMemoryBroker({ file, log });
    assert.equal((await broker.probe('events'))?.messages, before + 1);
    const seen: [string | undefined, boolean][] = [];
    await broker.consume('events', { prefetch: 1 }, (delivery) => {
      seen.push([delivery.properties.messageId, delivery.redelivered]);
      delivery.ack();
      if (seen.length === before + 1) done.resolve();
    });
    const done = Promise.withResolvers<void>();
    await done.promise;
    await broker.close();
    assert.deepEqual(seen.at(-1), ['after', false], 'a clean end makes nothing look redelivered');
    assert.ok(seen.slice(0, -1).every(([, redelivered]) => redelivered));
    assert.ok(killed.accepted.length > 0);
  });

  it('refuses a journal another process uses, with what to do', async () => {
    const publisher = await startPublisher(file, 1);
    try {
      await until('it has the journal', async () => (await publisher.said()).length > 0);
      await assert.rejects(openMemoryBroker({ file, log }), {
        code: 'INVALID_CONFIG',
        message: `could not open the journal "${file}": another process uses it`,
      });
    } finally {
      await publisher.kill();
    }
    await (await openMemoryBroker({ file, log })).close();
  });

  it('refuses a journal this process uses', async () => {
    const broker = await openMemoryBroker({ file, log });
    await assert.rejects(openMemoryBroker({ file, log }), { code: 'INVALID_CONFIG' });
    await broker.close();
  });

  it('says BROKER_DOWN when the file is no journal or its folder cannot be made', async () => {
    await assert.rejects(openMemoryBroker({ file: '/dev/null/broker.db', log }), { code: 'BROKER_DOWN' });
    await assert.rejects(openMemoryBroker({ file: import.meta.filename, log }), { code: 'BROKER_DOWN' });
  });

  it('refuses events while the disk is full, loses none it accepted, and goes on when there is space', function () {
    this.timeout(60_000);
    // A file system of 5 MiB in a mount namespace of the child's own: gone with it.
    const mount = `mount -t tmpfs -o size=5m none ${folder}`;
    const script = `${mount} && exec ${process.execPath} ${fixture('full-disk.ts')} ${folder}`;
    const child = spawnSync('sh', ['-c', `unshare --map-root-user --mount sh -c '${script}'`], { encoding: 'utf8' });
    if (/unshare|mount:/.test(child.stderr)) {
      process.stderr.write(`\n  SKIPPED: no small file system can be mounted here: ${child.stderr}\n`);
      this.skip();
    }
    assert.equal(child.status, 0, child.stderr);
    const { accepted, outcome, batch, held, afterwards, kept } = JSON.parse(child.stdout);
    assert.ok(accepted > 10, `${accepted} were accepted`);
    assert.equal(outcome, 'refused');
    assert.deepEqual(batch, ['refused', 'accepted', 'refused'], 'a transient message needs no disk');
    assert.equal(held, accepted + 1);
    assert.equal(afterwards, 'accepted');
    assert.equal(kept, accepted + 1);
  });
});

interface Killed {
  readonly accepted: readonly number[];
  readonly acknowledged: ReadonlySet<number>;
  /** Acknowledged before a round began whose messages were all accepted: written with them at the latest. */
  readonly forgotten: readonly number[];
  readonly nextId: number;
}

/** Runs the publisher and kills it once it has said so many lines. */
async function killedPublisher(file: string, first: number, lines: number): Promise<Killed> {
  const publisher = await startPublisher(file, first);
  await until('it has said enough', async () => (await publisher.said()).length >= lines);
  await publisher.kill();
  const accepted: number[] = [];
  const acknowledged = new Set<number>();
  let before: number[] = [];
  let forgotten: number[] = [];
  for (const line of await publisher.said()) {
    const id = Number(line.slice(1));
    if (line === 'begin') before = [...acknowledged];
    else if (line === 'end') forgotten = before;
    else if (line.startsWith('c')) accepted.push(id);
    else acknowledged.add(id);
  }
  // What was published in the last round may be there without having been said to be.
  return { accepted, acknowledged, forgotten, nextId: Math.max(first, ...accepted, ...acknowledged) + 1_000 };
}

/** It writes to a file: what a killed process wrote there stays, and no reader can hold it up. */
async function startPublisher(file: string, first: number) {
  const output = await open(`${file}.said`, 'w+');
  const stdio = ['ignore', output.fd, 'inherit'] as const;
  const child = spawn(process.execPath, [fixture('publisher.ts'), file, String(first)], { stdio: [...stdio] });
  const gone = once(child, 'exit');
  return {
    async said(): Promise<string[]> {
      return (await readFile(`${file}.said`, 'utf8')).split('\n').slice(0, -1);
    },
    async kill(): Promise<void> {
      child.kill('SIGKILL');
      assert.deepEqual(await gone, [null, 'SIGKILL']);
      await output.close();
    },
  };
}

function event(messageId: string) {
  return { exchange: '', routingKey: 'events', body: Buffer.from('x'), properties: { messageId, persistent: true } };
}

function fixture(name: string): string {
  return join(import.meta.dirname, '../fixtures/journal', name);
}
