import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { openMemoryBroker, type MemoryBroker } from '../../../core/broker/memory.ts';
import { FuncatronError } from '../../../core/errors.ts';
import { delay } from '../../../core/lifecycle.ts';
import { openSqliteStore } from '../../../core/store/sqlite.ts';
import type { Store } from '../../../core/store/store.ts';
import { compareEpochs, StoreKey, type RunnerReport, type Snapshot } from '../../../core/wire/control.ts';
import { listenerQueue, listenerTopology, stateExchange } from '../../../core/wire/topology.ts';
import { FencedKey } from '../../../tron/fenced-key.ts';
import { openLeader } from '../../../tron/leader.ts';
import { Reconciler } from '../../../tron/reconciler.ts';
import { addRevision, EMPTY_REGISTRY, Registry, REGISTRY_KEY } from '../../../tron/registry.ts';
import { Roster } from '../../../tron/roster.ts';
import { watch } from '../../../tron/watch.ts';
import { testBundle } from '../../helpers/live-bundle.ts';
import { until } from '../../helpers/until.ts';

const log = pino({ level: 'silent' });

describe('tron fencing', () => {
  let folder: string;
  let store: Store;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'funcatron-fencing-'));
    store = await openSqliteStore({ file: join(folder, 'store.sqlite'), log });
  });
  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true });
  });

  const leading = new AbortController().signal;

  async function keyOf(signal = leading, through = store): Promise<FencedKey> {
    const key = new FencedKey(through, 'k', signal);
    await key.load();
    return key;
  }

  /** The store, which fails as told before (or after) it does what it is asked. */
  function failing(fail: (method: string, when: 'before' | 'after') => boolean): Store {
    return new Proxy(store, {
      get(target, name: string) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return async (...args: unknown[]) => {
          if (fail(name, 'before')) throw new FuncatronError('STORE_DOWN', 'the test says so');
          const result: unknown = await Reflect.apply(member, target, args);
          if (fail(name, 'after')) throw new FuncatronError('STORE_DOWN', 'the answer was lost');
          return result;
        };
      },
    });
  }

  describe('FencedKey', () => {
    it('refuses every write of an old leader after the first of a new one', async () => {
      const old = await keyOf();
      await old.write('term 1');
      const fresh = await keyOf();
      await old.write('term 1, again');
      await assert.rejects(fresh.write('term 2'), { code: 'NO_LEADER' });
      await fresh.load();
      await fresh.write('term 2');
      await assert.rejects(old.write('term 1, at last'), { code: 'NO_LEADER' });
      assert.equal((await store.get('k'))?.toString(), 'term 2');
    });

    it('goes on trying while the store is down, as long as it leads', async () => {
      let failures = 3;
      const key = await keyOf(
        leading,
        failing((method, when) => method === 'compareAndSet' && when === 'before' && failures-- > 0),
      );
      await key.write('at last');
      assert.equal((await store.get('k'))?.toString(), 'at last');
      const over = new AbortController();
      const hopeless = await keyOf(
        over.signal,
        failing((method) => method === 'compareAndSet'),
      );
      const writing = hopeless.write('never');
      over.abort();
      await assert.rejects(writing, { code: 'NO_LEADER' });
    });

    it('knows its own write again when only the answer to it was lost', async () => {
      let failures = 1;
      const key = await keyOf(
        leading,
        failing((method, when) => method === 'compareAndSet' && when === 'after' && failures-- > 0),
      );
      await key.write('once');
      await key.write('twice');
      assert.equal((await store.get('k'))?.toString(), 'twice');
    });
  });

  describe('Reconciler', () => {
    let broker: MemoryBroker;
    beforeEach(async () => {
      broker = await openMemoryBroker({ file: undefined, log });
    });
    afterEach(() => broker.close());

    const runner = (revisions: RunnerReport['revisions'] = []): RunnerReport => ({
      v: 1,
      role: 'runner',
      id: 'r1',
      version: '0',
      hostname: 'h',
      pid: 1,
      startedAt: 0,
      sentAt: 0,
      epoch: '1.0',
      stopping: false,
      revisions,
    });

    async function open() {
      const registryKey = new FencedKey(store, REGISTRY_KEY, leading);
      const key = new FencedKey(store, StoreKey.snapshot, leading);
      await Promise.all([registryKey.load(), key.load()]);
      const registry = new Registry(registryKey, EMPTY_REGISTRY);
      const roster = new Roster({ memberLostMs: 10_000, reportMs: 2_000, isHearing: () => true });
      const heard: Snapshot[] = [];
      await broker.declare(listenerTopology(stateExchange, 'test', [''], 100));
      await broker.consume(listenerQueue(stateExchange.name, 'test'), {}, ({ body }) => {
        heard.push(JSON.parse(body.toString()) as Snapshot);
      });
      const reconciler = new Reconciler({ registry, roster, broker, key, id: 't1', resendMs: 60_000, log }, 7);
      return { registry, roster, reconciler, heard };
    }

    it('takes the next epoch exactly when the desired state changes, and stores what it publishes', async () => {
      const { registry, roster, reconciler, heard } = await open();
      assert.equal(await reconciler.apply(), '7.1');
      assert.equal(await reconciler.apply(), '7.1');
      await registry.update((state) => addRevision(state, testBundle({ operations: [] }).record));
      assert.equal(await reconciler.apply(), '7.1', 'a revision that is only stored concerns nobody');
      await registry.updateBundle('orders', (bundle) => ({ ...bundle, live: { aaaaaaaaaaaa: 100 } }));
      roster.take(runner());
      assert.equal(await reconciler.apply(), '7.2');
      roster.take(runner([{ bundle: 'orders', revision: 'aaaaaaaaaaaa', state: 'ready', workers: 1, inFlight: 0 }]));
      assert.equal(await reconciler.apply(), '7.3');
      roster.take(runner([{ bundle: 'orders', revision: 'aaaaaaaaaaaa', state: 'ready', workers: 2, inFlight: 9 }]));
      assert.equal(await reconciler.apply(), '7.3', 'how busy a runner is concerns nobody');
      await until('all are heard', () => heard.length === 3);
      const stored = JSON.parse((await store.get(StoreKey.snapshot))?.toString() ?? '') as Snapshot;
      assert.deepEqual(heard.at(-1)?.bundles, stored.bundles);
      assert.equal(stored.epoch, '7.3');
    });

    it('covers with one epoch what changed while it was writing, for everybody who asked meanwhile', async () => {
      const { registry, roster, reconciler } = await open();
      await reconciler.apply();
      await registry.update((state) => addRevision(state, testBundle({ operations: [] }).record));
      await registry.updateBundle('orders', (bundle) => ({ ...bundle, live: { aaaaaaaaaaaa: 100 } }));
      const first = reconciler.apply();
      roster.take(runner());
      const [one, two, three] = await Promise.all([first, reconciler.apply(), reconciler.apply()]);
      assert.equal(two, three);
      assert.ok(compareEpochs(one, two) <= 0);
      assert.deepEqual(reconciler.snapshot?.bundles[0]?.revisions[0]?.runners, ['r1']);
    });

    it('writes a snapshot of its own under a raised term', async () => {
      const { reconciler } = await open();
      await reconciler.apply();
      reconciler.raiseTerm(12);
      assert.equal(await reconciler.apply(), '12.1');
    });

    it('fails with NO_LEADER when another leader has written', async () => {
      const { reconciler } = await open();
      await reconciler.apply();
      await store.set(StoreKey.snapshot, 'of somebody else');
      reconciler.raiseTerm(8);
      await assert.rejects(reconciler.apply(), { code: 'NO_LEADER' });
    });
  });

  describe('openLeader', () => {
    const LEASE_MS = 300;

    it('lets one lead at a time, and the next as soon as the lead is given up', async () => {
      const leads: string[] = [];
      const open = (id: string) =>
        openLeader({
          store,
          id,
          leaseMs: LEASE_MS,
          log,
          async lead(signal) {
            leads.push(id);
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
            leads.push(`-${id}`);
          },
        });
      const first = open('a');
      await until('it leads', () => leads.length === 1);
      const second = open('b');
      await until('the other follows', () => second.state === 'following');
      assert.equal(first.state, 'leading');
      await first.close();
      await until('the other leads', () => leads.length === 3);
      await second.close();
      assert.deepEqual(leads, ['a', '-a', 'b', '-b']);
      assert.equal(await store.leaseOwner(StoreKey.leader), undefined);
    });

    it('stops leading by its own clock when the store does not answer', async () => {
      let isDown = false;
      let isOver = false;
      const leader = openLeader({
        store: failing(() => isDown),
        id: 'a',
        leaseMs: LEASE_MS,
        log,
        async lead(signal) {
          isDown = true;
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          isOver = true;
        },
      });
      await until('it has stopped', () => isOver);
      await until('it says so', () => leader.state === 'unknown');
      await leader.close();
    });

    it('gives the lead up when leading fails, and tries again', async () => {
      let attempts = 0;
      const leader = openLeader({
        store,
        id: 'a',
        leaseMs: LEASE_MS,
        log,
        async lead(signal) {
          if (++attempts < 3) throw new Error('not yet');
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        },
      });
      await until('it leads at last', () => attempts === 3);
      await leader.close();
    });
  });

  describe('watch', () => {
    const source = () => {
      const listeners = new Set<() => void>();
      return {
        listeners,
        change: () => listeners.forEach((listener) => listener()),
        subscribe: (listener: () => void) => {
          listeners.add(listener);
          return () => void listeners.delete(listener);
        },
      };
    };

    it('settles when the condition holds, when it throws, when time is up and when the lead is lost; and lets go', async () => {
      const { listeners, change, subscribe } = source();
      let holds = false;
      const options = { sources: [subscribe], signal: leading };
      const watching = watch(() => holds, options);
      change();
      holds = true;
      change();
      assert.equal(await watching, true);
      assert.equal(await watch(() => true, options), true);
      assert.equal(await watch(() => false, { ...options, timeoutMs: 5 }), false);
      const failing = watch(() => {
        throw new Error('no use');
      }, options);
      await assert.rejects(failing, /no use/);
      const over = new AbortController();
      const lost = watch(() => false, { ...options, signal: over.signal });
      over.abort();
      await assert.rejects(lost, { code: 'NO_LEADER' });
      await delay(0);
      assert.equal(listeners.size, 0);
    });
  });
});
