import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { inspect } from 'node:util';
import { pino } from 'pino';
import type { FuncatronError } from '../../core/errors.ts';
import { createLog } from '../../core/log.ts';
import { openStore } from '../../core/store/open.ts';
import type { Store } from '../../core/store/store.ts';
import { openFaultProxy } from '../helpers/fault-proxy.ts';
import { usePrivateRedis } from '../helpers/servers/redis.ts';
import { until } from '../helpers/until.ts';

/** The store's contract is two seconds; the rest is for a busy machine. */
const AT_MOST_MS = 5_000;

describe('core/store/redis under faults', () => {
  const redis = usePrivateRedis();
  const stores: Store[] = [];
  const lines: string[] = [];
  const log = pino(
    { level: 'debug' },
    new Writable({ write: (chunk: Buffer, _encoding, done) => (lines.push(String(chunk)), done()) }),
  );

  async function open(url = redis.server().url()): Promise<Store> {
    const store = await openStore(url, { dataDir: '/nonexistent', log, role: 'test' });
    stores.push(store);
    return store;
  }

  beforeEach(() => lines.splice(0));
  afterEach(async () => {
    await Promise.all(stores.splice(0).map((store) => store.close()));
  });

  it('opens while Redis is down, says so once, and works as soon as it is there', async () => {
    await redis.server().stop();
    const store = await open();
    assert.equal(store.isUp, false);
    const { port } = redis.server();
    await assert.rejects(store.get('k'), (error: FuncatronError) => {
      assert.equal(error.code, 'STORE_DOWN');
      assert.match(String(error.data.hint), new RegExp(`redis answers at redis://127.0.0.1:${port}`));
      assert.match(
        error.message,
        new RegExp(`^could not get "k": the store cannot be reached \\(redis://127.0.0.1:${port}\\): connect E[A-Z]+`),
      );
      assert.equal(error.cause, undefined);
      return true;
    });
    await redis.server().start();
    await until('the store is up', () => store.isUp);
    assert.equal(await store.set('k', 'v'), true);
    assert.equal(lines.filter((line) => line.includes('cannot be reached')).length, 1);
    assert.equal(lines.filter((line) => line.includes('answers again')).length, 1);
  });

  it('closes while Redis is down', async () => {
    await redis.server().stop();
    const store = await open();
    await store.close();
    await redis.server().start();
    await assert.rejects(store.get('k'), { code: 'STORE_DOWN' });
  });

  it('comes back with the server, whose data is still there', async () => {
    const store = await open();
    await store.set('kept', 'v');
    await redis.server().stop();
    await until('the store noticed by itself', () => !store.isUp);
    await assert.rejects(store.get('kept'), { code: 'STORE_DOWN' });
    await redis.server().start();
    await until('the store is up', () => store.isUp);
    assert.equal(String(await store.get('kept')), 'v');
  });

  it('says STORE_DOWN within two seconds when the server hangs, and works again when it goes on', async () => {
    const store = await open();
    redis.server().pause();
    const begun = performance.now();
    try {
      const attempts = [store.get('k'), store.set('k', 'v'), store.acquireLease('lease', 'me', 60_000)];
      const outcomes = await Promise.allSettled(attempts);
      const tookMs = performance.now() - begun;
      for (const outcome of outcomes) {
        assert.equal(outcome.status, 'rejected');
        assert.equal(outcome.reason.code, 'STORE_DOWN');
      }
      assert.ok(tookMs < AT_MOST_MS, `took ${tookMs} ms`);
      assert.equal(store.isUp, false);
      await store.delete('k').catch(() => {});
    } finally {
      redis.server().resume();
    }
    await until('the store is up', () => store.isUp);
    await store.set('k', 'after');
    assert.equal(String(await store.get('k')), 'after');
  });

  it('notices a hanging server without being asked anything', async () => {
    const store = await open();
    redis.server().pause();
    try {
      await until('the store is down', () => !store.isUp);
    } finally {
      redis.server().resume();
    }
    await until('the store is up', () => store.isUp);
  });

  it('closes in bounded time while the server hangs', async () => {
    const store = await open();
    redis.server().pause();
    try {
      await store.close();
    } finally {
      redis.server().resume();
    }
  });

  it('says STORE_DOWN while clients are paused', async () => {
    const store = await open();
    await command(redis.server().port, 'CLIENT', 'PAUSE', '2600', 'WRITE');
    await assert.rejects(store.set('k', 'v'), { code: 'STORE_DOWN' });
    await command(redis.server().port, 'CLIENT', 'UNPAUSE');
    await until('the store is up', () => store.isUp);
    assert.equal(await store.set('k', 'v'), true);
  });

  it('says STORE_DOWN on a replica and connects again, until there is a primary', async () => {
    const store = await open();
    const before = await clientId(redis.server().port);
    await command(redis.server().port, 'REPLICAOF', '127.0.0.1', '1');
    try {
      await assert.rejects(store.set('k', 'v'), { code: 'STORE_DOWN', message: /READONLY/ });
      await until('it connected again', async () => ((await clientId(redis.server().port)) ?? before) !== before);
    } finally {
      await command(redis.server().port, 'REPLICAOF', 'NO', 'ONE');
    }
    await until('it can be written', () => store.set('k', 'v').catch(() => false));
    assert.equal(store.isUp, true);
  });

  it('says STORE_DOWN when the server has no memory left', async () => {
    const store = await open();
    await command(redis.server().port, 'CONFIG', 'SET', 'maxmemory', '1');
    try {
      await assert.rejects(store.set('k', 'v'), { code: 'STORE_DOWN', message: /OOM/ });
    } finally {
      await command(redis.server().port, 'CONFIG', 'SET', 'maxmemory', '0');
    }
    assert.equal(await store.set('k', 'v'), true);
  });

  it('is down with a wrong password, and never shows it', async () => {
    await command(redis.server().port, 'CONFIG', 'SET', 'requirepass', 'right');
    try {
      const wrong = await open(`redis://:s3cret@127.0.0.1:${redis.server().port}/0`);
      assert.equal(wrong.isUp, false);
      const error = await wrong.get('k').catch(String);
      assert.doesNotMatch(inspect(error, { depth: 10 }), /s3cret/);
      assert.ok(lines.length > 0);
      assert.doesNotMatch(lines.join(''), /s3cret/);
      const right = await open(`redis://:right@127.0.0.1:${redis.server().port}/0`);
      assert.equal(right.isUp, true);
    } finally {
      await command(redis.server().port, 'AUTH', 'right', 'CONFIG', 'SET', 'requirepass', '');
    }
  });

  it('sends no command twice when the connection breaks before the answer', async () => {
    const proxy = await openFaultProxy(redis.server().port);
    try {
      const store = await open(proxy.through(redis.server().url()));
      const direct = await open();
      proxy.pause('down');
      const increment = assert.rejects(store.increment('counter', 1), { code: 'STORE_DOWN' });
      await until('the server has counted', async () => String(await direct.get('counter')) === '1');
      proxy.cut();
      await increment;
      proxy.resume();
      await until('the store is up', () => store.isUp);
      assert.equal(await store.increment('counter', 1), 2);
    } finally {
      await proxy.close();
    }
  });

  it('lets a lease go when its owner is cut off, and the owner learns it has lost', async () => {
    const proxy = await openFaultProxy(redis.server().port);
    try {
      const first = await open(proxy.through(redis.server().url()));
      const second = await open();
      assert.equal(await first.acquireLease('leader', 'first', 400), true);
      assert.equal(await second.acquireLease('leader', 'second', 60_000), false);
      proxy.refuse(true);
      proxy.cut();
      await until('the first is cut off', () => !first.isUp);
      await assert.rejects(first.acquireLease('leader', 'first', 400), { code: 'STORE_DOWN' });
      await until('the lease is free', () => second.acquireLease('leader', 'second', 60_000));
      proxy.refuse(false);
      await until('the first is connected', () => first.isUp);
      assert.equal(await first.acquireLease('leader', 'first', 400), false);
      assert.equal(await first.leaseOwner('leader'), 'second');
    } finally {
      await proxy.close();
    }
  });
});

describe('core/store/open', () => {
  const log = createLog({ level: 'silent', role: 'test' });

  for (const url of ['', 'mysql://root:s3cret@db', 'sqlite', 'redis']) {
    it(`refuses "${url}" without showing a password`, async () => {
      const error = await openStore(url, { dataDir: '/nonexistent', log, role: 'test' }).catch((thrown) => thrown);
      assert.equal(error.code, 'INVALID_CONFIG');
      assert.doesNotMatch(JSON.stringify([error.message, error.data]), /s3cret/);
    });
  }

  it('says STORE_DOWN when the file cannot be opened', async () => {
    const opening = openStore('sqlite:', { dataDir: '/dev/null/folder', log, role: 'test' });
    await assert.rejects(opening, { code: 'STORE_DOWN' });
  });
});

/** Sends one command (or `AUTH password` and a command) on a connection of its own. */
async function command(port: number, ...words: string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const commands = words[0] === 'AUTH' ? [words.slice(0, 2), words.slice(2)] : [words];
  let answer = '';
  for (const each of commands) {
    socket.write(`*${each.length}\r\n${each.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`);
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    answer = chunk.toString();
    assert.doesNotMatch(answer, /^-/, `${each.join(' ')}: ${answer}`);
  }
  socket.destroy();
  return answer;
}

/** The server's number for the store's connection. */
async function clientId(port: number): Promise<string | undefined> {
  const list = await command(port, 'CLIENT', 'LIST');
  return /id=(\d+) [^\n]*name=funcatron-test/.exec(list)?.[1];
}
