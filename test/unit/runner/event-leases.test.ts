import assert from 'node:assert/strict';
import type { Delivery } from '../../../core/broker/broker.ts';
import { newId, parseId } from '../../../core/id.ts';
import type { Store } from '../../../core/store/store.ts';
import { StoreKey } from '../../../core/wire/control.ts';
import { CALL_EXCHANGE, callKey, deadQueue, eventQueue, retryQueue } from '../../../core/wire/topology.ts';
import { EventLeases } from '../../../runner/triggers/event-leases.ts';
import type { Incoming } from '../../../runner/triggers/incoming.ts';
import { until } from '../../helpers/until.ts';
import { createStubIsolate, type StubCall, type StubFunc } from './stub-isolate.ts';
import { openTestRunner, silent, type TestRunner } from './test-runner.ts';

const LEASE_MS = 300;
const operations = [{ operationId: 'crunch', method: 'POST', http: false, timeoutMs: 0 }] as const;

describe('runner/triggers/event-leases', () => {
  let test: TestRunner;
  let seen: StubCall[];
  const opened: EventLeases[] = [];

  async function open(crunch: StubFunc, config = {}): Promise<void> {
    seen = [];
    const isolate = createStubIsolate({
      crunch(call) {
        seen.push(call);
        return crunch(call);
      },
    });
    test = await openTestRunner({ operations, isolate, config: { eventLeaseMs: LEASE_MS, ...config } });
    await until('events are consumed', async () => (await test.broker.probe(eventQueue('shop')))?.consumers === 1);
  }

  function send(body = ''): Promise<unknown> {
    return test.broker.publish({
      exchange: CALL_EXCHANGE,
      routingKey: callKey('shop', 'crunch'),
      body: Buffer.from(body),
      properties: { messageId: newId(), contentType: 'text/plain' },
      mandatory: true,
    });
  }

  const records = (): Promise<readonly string[]> => test.store.keys('event/of/');

  /** Leases of another runner, which ends when the test does. */
  function openLeases(store: Store): EventLeases {
    const leases = new EventLeases({ broker: test.broker, store, log: silent, leaseMs: LEASE_MS });
    opened.push(leases);
    return leases;
  }

  afterEach(async () => {
    await Promise.all(opened.splice(0).map((leases) => leases.close()));
    await test.close();
  });

  it('runs an event without a deadline, and without holding its delivery', async () => {
    const { promise, resolve } = Promise.withResolvers<{ status: number }>();
    await open(() => promise);
    await send('x');
    await until('it runs', () => seen.length === 1);
    assert.equal(seen[0]?.deadline, Infinity);
    await until('its delivery is acknowledged', async () => {
      const runner = await test.broker.probe(eventQueue('shop'));
      return runner?.messages === 0 && (await records()).length === 1;
    });
    const { events } = (await test.report()).revisions[0] ?? assert.fail();
    assert.equal(events?.running, 1);
    assert.ok(Math.abs(events.since - Date.now()) < 60_000);
    resolve({ status: 204 });
    await until('the store forgets it', async () => (await records()).length === 0);
    assert.equal((await test.report()).revisions[0]?.events, undefined);
    await test.runner.close();
    assert.equal((await test.store.get(StoreKey.eventOwners))?.toString(), '[]');
    assert.equal(seen.length, 1);
  });

  it('retries one that failed, and forgets the attempt', async () => {
    await open(() => ({ status: 500 }));
    await send();
    await until('it waits for its next attempt', async () => {
      return (await test.broker.probe(retryQueue('shop', 1_000)))?.messages === 1;
    });
    await until('the store forgets it', async () => (await records()).length === 0);
    assert.equal(seen[0]?.attempt, 1);
  });

  it('is not blind to the expiration of an event', async () => {
    await open(() => undefined);
    await test.broker.publish({
      exchange: CALL_EXCHANGE,
      routingKey: callKey('shop', 'crunch'),
      body: Buffer.alloc(0),
      properties: { expirationMs: 60_000 },
      mandatory: true,
    });
    await until('it runs', () => seen.length === 1);
    const left = (seen[0]?.deadline ?? 0) - Date.now();
    assert.ok(left > 0 && left <= 60_000, `${left} ms`);
  });

  it('brings back, as their next attempt, the events of a runner whose lease ran out', async () => {
    await open(() => ({ status: 204 }));
    const { cut, store } = cuttable(test.store);
    const leases = openLeases(store);
    const held = await leases.hold(incoming('lost'), 'shop', test.bundle.record.revision);
    assert.equal(held.delivery.alive, true);
    cut();
    await until('it runs here', () => seen.length === 1);
    assert.deepEqual([seen[0]?.attempt, seen[0]?.body.toString()], [2, 'lost']);
    await until('the store forgets it', async () => (await records()).length === 0);
  });

  it('tells a runner that was cut off that its events are not its own any more', async () => {
    await open(() => ({ status: 204 }));
    const { cut, mend, store } = cuttable(test.store);
    const leases = openLeases(store);
    const held = await leases.hold(incoming('twice'), 'shop', 'r');
    cut();
    await until('it runs here', () => seen.length === 1);
    mend();
    await until('it knows', () => !held.delivery.alive);
    const again = await leases.hold(incoming('again'), 'shop', 'r');
    assert.equal(again.delivery.alive, true);
    assert.deepEqual(leases.running('shop', 'r')?.running, 1);
    again.delivery.ack();
    await until('the store forgets it', async () => (await records()).length === 0);
    assert.equal(seen.length, 1);
  });

  it('brings back at once what a runner leaves behind when it closes', async () => {
    await open(() => ({ status: 204 }));
    const leases = openLeases(test.store);
    await leases.hold(incoming('left'), 'shop', 'r');
    await leases.close();
    await until('it runs here', () => seen.length === 1);
    assert.equal(seen[0]?.attempt, 2);
  });

  it('leaves the events of runners that renew alone', async () => {
    await open(() => ({ status: 204 }));
    const leases = openLeases(test.store);
    const { delivery } = await leases.hold(incoming('mine'), 'shop', 'r');
    const renewals = watchRenewals(test.store);
    await until('it was renewed often', () => renewals.count >= 6);
    assert.equal(seen.length, 0);
    delivery.ack();
  });

  it('puts an event back for later while the store is away', async () => {
    await open(() => ({ status: 204 }));
    const { cut, store } = cuttable(test.store);
    const leases = openLeases(store);
    cut();
    await assert.rejects(leases.hold(incoming('x'), 'shop', 'r'), { code: 'STORE_DOWN' });
  });

  it('buries an event whose runners died with every attempt', async () => {
    await open(() => ({ status: 204 }), { eventAttempts: 2 });
    const leases = openLeases(test.store);
    await leases.hold({ ...incoming('poison'), attempt: 2 }, 'shop', 'r');
    await leases.close();
    let letter: Delivery | undefined;
    await until('a dead letter', async () => (letter = await test.broker.take(deadQueue('shop'))) !== undefined);
    assert.equal(letter?.properties.headers?.['fn-error-code'], 'RUNNER_LOST');
    assert.equal(seen.length, 0);
  });
});

function incoming(body: string): Incoming {
  const callId = newId();
  return {
    delivery: {
      body: Buffer.from(body),
      exchange: CALL_EXCHANGE,
      routingKey: callKey('shop', 'crunch'),
      properties: { messageId: callId, contentType: 'text/plain' },
      redelivered: false,
      alive: true,
      ack: () => undefined,
      reject: () => undefined,
    },
    operationId: 'crunch',
    id: parseId(callId) ?? assert.fail(),
    callId,
    replyTo: undefined,
    attempt: 1,
    deadline: undefined,
    alias: 'live',
    revision: undefined,
  };
}

/** A store that one runner can be cut off from. */
function cuttable(store: Store): { store: Store; cut: () => void; mend: () => void } {
  let isCut = false;
  return {
    cut: () => void (isCut = true),
    mend: () => void (isCut = false),
    store: new Proxy(store, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]): Promise<unknown> => {
          if (isCut) throw Object.assign(new Error('cut off'), { code: 'STORE_DOWN' });
          return (await value.apply(target, args)) as unknown;
        };
      },
    }),
  };
}

/** Counts renewals of leases on the store. */
function watchRenewals(store: Store): { readonly count: number } {
  const renewals = { count: 0 };
  const acquire = store.acquireLease.bind(store);
  store.acquireLease = async (...args) => {
    renewals.count++;
    return await acquire(...args);
  };
  return renewals;
}
