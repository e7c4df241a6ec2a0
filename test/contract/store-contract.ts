import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { ErrorCode } from '../../core/errors.ts';
import type { Store } from '../../core/store/store.ts';
import { until } from '../helpers/until.ts';

/** What every store does. `open` gives a new connection to one and the same store each time. */
export function describeStore(name: string, open: () => Promise<Store>): void {
  describe(name, () => {
    let store: Store;
    let other: Store;
    let key: string;
    let n = 0;

    before(async () => {
      store = await open();
      other = await open();
    });
    after(async () => {
      await store.close();
      await other.close();
    });
    beforeEach(() => {
      key = `contract/${process.pid}/${n++}`;
    });

    it('is up', () => {
      assert.equal(store.isUp, true);
    });

    it('has nothing under a key nobody set', async () => {
      assert.equal(await store.get(key), undefined);
    });

    it('gives back every byte, on every connection', async () => {
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      assert.equal(await store.set(key, bytes), true);
      const got = await other.get(key);
      assert.ok(Buffer.isBuffer(got));
      assert.deepEqual(got, bytes);
    });

    it('keeps any bytes under any key', async () => {
      await fc.assert(
        fc.asyncProperty(fc.string({ unit: 'grapheme' }), fc.uint8Array(), async (part, bytes) => {
          await store.set(`${key}/${part}`, bytes);
          assert.deepEqual(await store.get(`${key}/${part}`), Buffer.from(bytes));
        }),
        { numRuns: 50 },
      );
    });

    it('keeps 512 KiB in one value and an empty value apart from none', async () => {
      const chunk = Buffer.alloc(512 * 1024, 7);
      await store.set(key, chunk);
      assert.deepEqual(await store.get(key), chunk);
      await store.set(key, '');
      assert.deepEqual(await store.get(key), Buffer.alloc(0));
    });

    it('takes a view of a larger buffer as what it shows', async () => {
      await store.set(key, new TextEncoder().encode('..shown..').subarray(2, 7));
      assert.equal(String(await store.get(key)), 'shown');
    });

    it('replaces a value and its time to live', async () => {
      await store.set(key, 'short', { ttlMs: 60 });
      await store.set(key, 'long');
      await store.set(`${key}/clock`, '', { ttlMs: 120 });
      await until('the clock key is gone', async () => (await store.get(`${key}/clock`)) === undefined);
      assert.equal(String(await store.get(key)), 'long');
    });

    it('forgets a value after its time to live', async () => {
      await store.set(key, 'x', { ttlMs: 50 });
      assert.equal(String(await store.get(key)), 'x');
      await until('it is gone', async () => (await store.get(key)) === undefined);
      assert.deepEqual(await store.keys(key), []);
      assert.equal(await store.delete(key), 0);
      assert.equal(await store.set(key, 'y', { ifAbsent: true }), true);
    });

    it('sets only what is absent with ifAbsent', async () => {
      assert.equal(await store.set(key, 'first', { ifAbsent: true }), true);
      assert.equal(await other.set(key, 'second', { ifAbsent: true }), false);
      assert.equal(String(await store.get(key)), 'first');
    });

    it('deletes keys and says how many were there', async () => {
      await store.set(`${key}/a`, 'a');
      await store.set(`${key}/b`, 'b');
      assert.equal(await store.delete(`${key}/a`, `${key}/b`, `${key}/c`), 2);
      assert.equal(await store.get(`${key}/a`), undefined);
      assert.equal(await store.delete(), 0);
    });

    it('compares and sets', async () => {
      assert.equal(await store.compareAndSet(key, 'x', 'y'), false, 'nothing is not x');
      assert.equal(await store.compareAndSet(key, undefined, 'é'), true);
      assert.equal(await store.compareAndSet(key, undefined, 'b'), false, 'something is not nothing');
      assert.equal(await store.compareAndSet(key, 'e', 'b'), false);
      assert.equal(await store.compareAndSet(key, 'é', ''), true);
      assert.equal(await store.compareAndSet(key, undefined, 'c'), false, 'an empty value is not nothing');
      assert.equal(await store.compareAndSet(key, '', 'c'), true);
      assert.equal(String(await store.get(key)), 'c');
    });

    it('lets one of many compare-and-sets win', async () => {
      await store.set(key, '0');
      const won = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? store : other).compareAndSet(key, '0', `winner ${i}`)),
      );
      assert.equal(won.filter(Boolean).length, 1);
      assert.equal(String(await store.get(key)), `winner ${won.indexOf(true)}`);
    });

    it('increments from zero and by negative steps, losing none of many at once', async () => {
      assert.equal(await store.increment(key, 5), 5);
      assert.equal(await store.increment(key, -7), -2);
      const sums = await Promise.all(
        Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? store : other).increment(key, 1)),
      );
      assert.equal(Math.max(...sums), 48);
      assert.equal(new Set(sums).size, 50);
      assert.equal(String(await store.get(key)), '48');
    });

    it('counts the time to live of a counter from its first increment', async () => {
      await store.increment(key, 1, 100);
      await until('a new counter began', async () => (await store.increment(key, 1, 100)) === 1);
      await store.set(key, '5');
      await store.increment(key, 1, 40);
      await store.set(`${key}/clock`, '', { ttlMs: 80 });
      await until('the clock key is gone', async () => (await store.get(`${key}/clock`)) === undefined);
      assert.equal(String(await store.get(key)), '6', 'a value without an end gets none');
    });

    it('refuses to increment what is no safe integer, and leaves it as it is', async () => {
      for (const held of ['x', '1.5', '', ' 1', '01', '-0', '9007199254740991']) {
        await store.set(key, held);
        await assert.rejects(store.increment(key, 1), code('INVALID_REQUEST'), `"${held}"`);
        assert.equal(String(await store.get(key)), held);
      }
      await assert.rejects(store.increment(key, 0.5), code('INVALID_REQUEST'));
      assert.equal(await store.delete(key), 1);
      assert.equal(await store.increment(key, Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
      assert.equal(await store.increment(key, -1), Number.MAX_SAFE_INTEGER - 1);
    });

    it('refuses a time to live that is none', async () => {
      for (const ttlMs of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        await assert.rejects(store.set(key, 'x', { ttlMs }), code('INVALID_REQUEST'));
        await assert.rejects(store.increment(key, 1, ttlMs), code('INVALID_REQUEST'));
        await assert.rejects(store.acquireLease(key, 'me', ttlMs), code('INVALID_REQUEST'));
      }
      assert.equal(await store.get(key), undefined);
    });

    it('lists the keys under a prefix, sorted, taking no letter for a wildcard', async () => {
      const under = ['a', 'b', 'a/1', '\u{1f600}', '\uffee', 'Z'].map((part) => `${key}*[?]\\/${part}`);
      for (const one of [...under, `${key}x[?]\\/a`, `${key}*`]) await store.set(one, 'x');
      assert.deepEqual(await store.keys(`${key}*[?]\\/`), under.toSorted());
      assert.deepEqual(await store.keys(`${key}/nothing`), []);
    });

    it('lists more keys than one answer holds', async () => {
      const names = Array.from({ length: 2_500 }, (_, i) => `${key}/${String(i).padStart(5, '0')}`);
      await Promise.all(names.map((one) => store.set(one, '')));
      assert.deepEqual(await store.keys(`${key}/`), names);
      assert.equal(await store.delete(...names), names.length);
    });

    it('gives a lease to one owner, who may renew it', async () => {
      assert.equal(await store.leaseOwner(key), undefined);
      assert.equal(await store.acquireLease(key, 'one', 60_000), true);
      assert.equal(await other.acquireLease(key, 'two', 60_000), false);
      assert.equal(await store.acquireLease(key, 'one', 60_000), true);
      assert.equal(await other.leaseOwner(key), 'one');
    });

    it('gives the lease to another when its owner gives it up, and only its owner can', async () => {
      await store.acquireLease(key, 'one', 60_000);
      await other.releaseLease(key, 'two');
      assert.equal(await store.leaseOwner(key), 'one');
      await store.releaseLease(key, 'one');
      assert.equal(await store.leaseOwner(key), undefined);
      assert.equal(await other.acquireLease(key, 'two', 60_000), true);
    });

    it('gives the lease to another when its owner stops renewing', async () => {
      assert.equal(await store.acquireLease(key, 'one', 100), true);
      assert.equal(await other.acquireLease(key, 'two', 60_000), false);
      await until('the lease changed hands', () => other.acquireLease(key, 'two', 60_000));
      assert.equal(await store.acquireLease(key, 'one', 100), false);
      assert.equal(await store.leaseOwner(key), 'two');
    });

    it('gives a lease to exactly one of many', async () => {
      const won = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? store : other).acquireLease(key, `owner ${i}`, 60_000)),
      );
      assert.equal(won.filter(Boolean).length, 1);
    });

    it('says STORE_DOWN after close, and closes twice', async () => {
      const third = await open();
      await third.close();
      await third.close();
      assert.equal(third.isUp, false);
      await assert.rejects(third.get(key), code('STORE_DOWN'));
    });
  });
}

function code(expected: ErrorCode): { code: ErrorCode } {
  return { code: expected };
}
