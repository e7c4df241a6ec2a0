import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAmqpBroker } from '../../core/broker/amqp.ts';
import type { Broker } from '../../core/broker/broker.ts';
import { newId } from '../../core/id.ts';
import { ServiceStack } from '../../core/lifecycle.ts';
import { openStore } from '../../core/store/open.ts';
import type { Store } from '../../core/store/store.ts';
import { StoreKey, type RunnerReport } from '../../core/wire/control.ts';
import {
  CALL_EXCHANGE,
  callKey,
  deadQueue,
  eventQueue,
  REPORT_QUEUE,
  reportTopology,
} from '../../core/wire/topology.ts';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { useRedis } from '../helpers/servers/redis.ts';
import { until } from '../helpers/until.ts';
import { publishSnapshot, silent, snapshotOf, storeBundle, type TestBundle } from '../unit/runner/test-runner.ts';

const LEASE_MS = 1_500;

/** Each attempt leaves its mark in kv; `open` lets those that wait go on. */
const source = `
const { setTimeout } = globalThis;
exports.crunch = async (event, { services, deadline }) => {
  const { kv } = services;
  await kv.set('attempt-' + event.text() + '-' + event.attempt, [event.id, deadline === Infinity]);
  while (!(await kv.get('open-' + event.attempt))) await new Promise((resolve) => setTimeout(resolve, 50));
  await kv.set('done-' + event.text(), event.attempt);
};`;

describe('events without a deadline, over RabbitMQ and Redis', function () {
  this.timeout(60_000);
  const rabbit = useRabbit();
  const redis = useRedis();
  let folder: string;
  let stack: ServiceStack;
  let broker: Broker;
  let store: Store;
  let bundle: TestBundle;
  let storeUrl: string;
  const runners = new Map<string, ChildProcess>();
  const reports = new Map<string, RunnerReport>();

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-leases-'));
    stack = new ServiceStack();
    storeUrl = `${redis.url()}?prefix=${newId()}:`;
    broker = stack.push('broker', openAmqpBroker({ urls: [rabbit.url()], connectionName: 'test', log: silent }));
    store = stack.push('store', await openStore(storeUrl, { dataDir: '', log: silent, role: 'test' }));
    await broker.ready(AbortSignal.timeout(20_000));
    await until('the store is up', () => store.isUp);
    await broker.declare(reportTopology);
    await broker.consume(REPORT_QUEUE, {}, ({ body }) => {
      const report = JSON.parse(body.toString()) as RunnerReport;
      reports.set(report.id, report);
    });
    bundle = await storeBundle(store, {
      name: `shop-${newId().slice(-12)}`,
      operations: [{ operationId: 'crunch', method: 'POST', http: false, timeoutMs: 0 }],
      source,
      manifest: { services: { kv: { type: 'kv' } } },
    });
  });

  afterEach(async () => {
    for (const id of runners.keys()) await kill(id);
    for (const name of [bundle.queue, eventQueue(bundle.name), deadQueue(bundle.name)]) await broker.deleteQueue(name);
    await stack.close();
    reports.clear();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  async function start(...ids: readonly string[]): Promise<void> {
    await publishSnapshot(broker, store, snapshotOf(bundle.state([...ids, ...runners.keys()])));
    for (const id of ids) {
      const config = { dataDir: join(folder, id), reportMs: 200, drainMs: 1_000, eventLeaseMs: LEASE_MS };
      const options = JSON.stringify({ id, brokerUrl: rabbit.url(), storeUrl, config });
      const path = join(import.meta.dirname, 'runner-process.ts');
      const child = spawn(process.execPath, [path, options], { stdio: ['ignore', 'pipe', 'inherit'] });
      runners.set(id, child);
      await once(child.stdout, 'data');
    }
    await until(
      'all consume events',
      async () => (await broker.probe(eventQueue(bundle.name)))?.consumers === runners.size,
      30_000,
    );
  }

  async function kill(id: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = runners.get(id);
    runners.delete(id);
    if (child === undefined || child.exitCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  async function publish(body: string): Promise<string> {
    const messageId = newId();
    const outcome = await broker.publish({
      exchange: CALL_EXCHANGE,
      routingKey: callKey(bundle.name, 'crunch'),
      body: Buffer.from(body),
      properties: { persistent: true, messageId, contentType: 'text/plain', headers: { 'fn-header-x-a': 'b' } },
      mandatory: true,
    });
    assert.equal(outcome, 'accepted');
    return messageId;
  }

  async function kv(key: string): Promise<unknown> {
    const text = await store.get(StoreKey.kv(bundle.name, key));
    return text === undefined ? undefined : JSON.parse(text.toString());
  }

  async function holder(): Promise<string> {
    let found: string | undefined;
    await until('a runner says that it runs the event', () => {
      found = [...reports.values()].find(({ revisions }) => revisions[0]?.events?.running === 1)?.id;
      return found !== undefined;
    });
    return found ?? assert.fail();
  }

  it('run again elsewhere within a lease when their runner is killed', async () => {
    await start('a', 'b');
    const id = await publish('x');
    await until('it runs', async () => (await kv('attempt-x-1')) !== undefined);
    assert.deepEqual(await kv('attempt-x-1'), [id, true]);
    await until('its delivery is acknowledged', async () => {
      return (await broker.probe(eventQueue(bundle.name)))?.messages === 0;
    });
    await kill(await holder());
    await until('it runs elsewhere', async () => (await kv('attempt-x-2')) !== undefined, 15_000);
    assert.deepEqual(await kv('attempt-x-2'), [id, true]);
    await store.set(StoreKey.kv(bundle.name, 'open-2'), 'true');
    await until('it is done', async () => (await kv('done-x')) === 2);
    await until('nothing of it is left', async () => (await store.keys('event/of/')).length === 0);
  });

  it('run again when the whole cluster was killed, and are not lost with its broker’s deliveries', async () => {
    await start('a');
    await publish('x');
    await until('it runs', async () => (await kv('attempt-x-1')) !== undefined);
    await kill('a');
    await start('c');
    await until('it runs again', async () => (await kv('attempt-x-2')) !== undefined, 15_000);
    await store.set(StoreKey.kv(bundle.name, 'open-2'), 'true');
    await until('it is done', async () => (await kv('done-x')) === 2);
  });

  it('are put back by a runner that drains', async () => {
    await start('a', 'b');
    await publish('x');
    const first = await holder();
    await kill(first, 'SIGTERM');
    await store.set(StoreKey.kv(bundle.name, 'open-2'), 'true');
    await until('it is done elsewhere', async () => (await kv('done-x')) === 2, 20_000);
    await until('nothing of it is left', async () => (await store.keys('event/of/')).length === 0);
  });
});
