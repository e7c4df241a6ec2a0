import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect, type ConsumeMessage } from 'amqplib';
import { openAmqpBroker } from '../../core/broker/amqp.ts';
import { RpcTarget } from '../../core/broker/batch.ts';
import type { Broker, Delivery } from '../../core/broker/broker.ts';
import { openRpc, type Rpc } from '../../core/broker/rpc.ts';
import { newId } from '../../core/id.ts';
import { ServiceStack } from '../../core/lifecycle.ts';
import { openSqliteStore } from '../../core/store/sqlite.ts';
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
import { openFaultProxy } from '../helpers/fault-proxy.ts';
import { NoServer, startOrSkip } from '../helpers/servers/provider.ts';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { until } from '../helpers/until.ts';
import {
  call,
  publishSnapshot,
  silent,
  snapshotOf,
  storeBundle,
  type CallOptions,
  type CallOutcome,
  type TestBundle,
} from '../unit/runner/test-runner.ts';

const run = promisify(execFile);

const source = `
const never = () => new Promise(() => undefined);
exports.echo = async (event) => ({ attempt: event.attempt, body: event.text(), id: event.id });
exports.hold = async (event, context) => {
  if (event.attempt === 1) return never();
  await context.services.kv.set('held', event.attempt);
  return { attempt: event.attempt };
};
exports.wait = async (event, context) => {
  const until = Date.now() + Number(event.query.ms);
  while (Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 10));
  await context.services.kv.set('waited', event.attempt);
  return { attempt: event.attempt };
};
let here = 0;
exports.meet = async (event) => {
  here++;
  while (here < Number(event.query.all)) await new Promise((resolve) => setTimeout(resolve, 10));
  return { here };
};
exports.spin = () => { for (;;); };
exports.eat = () => { const all = []; for (;;) all.push(new Array(1e6).fill(all.length)); };
exports.fail = async () => { throw new TypeError('not today'); };
exports.reach = async (event) => {
  try {
    return (await fetch(event.query.url)).status;
  } catch (error) {
    return error.cause.code;
  }
};
exports.count = async (event, context) => ({ value: await context.services.kv.incr('hits') });
`;
const operations = ['echo', 'hold', 'wait', 'meet', 'spin', 'eat', 'fail', 'reach', 'count'].map((operationId) => ({
  operationId,
}));
const index = (operationId: string): number =>
  operations.findIndex((operation) => operation.operationId === operationId);

describe('a runner as a process, over RabbitMQ', function () {
  this.timeout(60_000);
  const rabbit = useRabbit();
  let folder: string;
  let stack: ServiceStack;
  let broker: Broker;
  let store: Store;
  let rpc: Rpc;
  let bundle: TestBundle;
  let target: RpcTarget;
  let runners: Map<string, ChildProcess>;
  let reports: RunnerReport[];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-runner-'));
    stack = new ServiceStack();
    broker = stack.push('broker', openAmqpBroker({ urls: [rabbit.url()], connectionName: 'test', log: silent }));
    store = stack.push('store', await openSqliteStore({ file: join(folder, 'store.sqlite'), log: silent }));
    const limits = { maxInFlight: 1_000, maxInFlightBytes: 1e8 };
    rpc = stack.push('rpc', openRpc({ broker, id: newId(), clock: Date, log: silent, limits }));
    runners = new Map();
    reports = [];
    await broker.ready(AbortSignal.timeout(20_000));
    await broker.declare(reportTopology);
    await broker.consume(REPORT_QUEUE, {}, ({ body }) => reports.push(JSON.parse(body.toString()) as RunnerReport));
    await until('the rpc is ready', () => rpc.isReady);
  });

  afterEach(async () => {
    await Promise.all([...runners.keys()].map((id) => end(id, 'SIGKILL')));
    await broker.deleteQueue(bundle.queue);
    await broker.deleteQueue(eventQueue(bundle.name));
    await stack.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  /** Starts runners that hold the bundle, and waits until they consume. */
  async function start(ids: readonly string[], manifest = {}, config = {}, brokerUrl = rabbit.url()): Promise<void> {
    const name = `shop-${newId().slice(-12)}`;
    bundle = await storeBundle(store, {
      name,
      operations,
      source,
      manifest: { services: { kv: { type: 'kv' } }, ...manifest },
    });
    target = new RpcTarget(bundle.queue, 25);
    await publishSnapshot(broker, store, snapshotOf(bundle.state(ids)));
    await Promise.all(ids.map((id) => startRunner(id, config, brokerUrl)));
    await until('all consume', async () => (await broker.probe(bundle.queue))?.consumers === ids.length, 30_000);
    await until('events too', async () => (await broker.probe(eventQueue(name)))?.consumers === ids.length);
  }

  async function startRunner(id: string, config = {}, brokerUrl = rabbit.url()): Promise<void> {
    const options = {
      id,
      brokerUrl,
      storeFile: join(folder, 'store.sqlite'),
      config: { dataDir: join(folder, id), reportMs: 200, drainMs: 10_000, ...config },
    };
    const path = join(import.meta.dirname, 'runner-process.ts');
    const child = spawn(process.execPath, [path, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
    runners.set(id, child);
    await once(child.stdout, 'data');
  }

  async function end(id: string, signal: NodeJS.Signals): Promise<void> {
    const child = runners.get(id);
    runners.delete(id);
    if (child === undefined || child.exitCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  function callFunc(operationId: string, options: CallOptions = {}): Promise<CallOutcome> {
    return call(rpc, target, index(operationId), { timeoutMs: 20_000, ...options });
  }

  /** The runner that holds calls now. */
  async function holder(inFlight = 1): Promise<string> {
    let found: string | undefined;
    await until('a runner holds the call', () => {
      const newest = new Map(reports.map((report) => [report.id, report]));
      found = [...newest.values()].find((report) => report.revisions[0]?.inFlight === inFlight)?.id;
      return found !== undefined;
    });
    return found ?? assert.fail();
  }

  function publish(operationId: string, headers: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return broker.publish({
      exchange: CALL_EXCHANGE,
      routingKey: callKey(bundle.name, operationId),
      body: Buffer.from('payload'),
      properties: { persistent: true, headers },
      mandatory: true,
    });
  }

  async function deadLetter(): Promise<Delivery> {
    let letter: Delivery | undefined;
    await until(
      'a dead letter',
      async () => (letter = await broker.take(deadQueue(bundle.name))) !== undefined,
      30_000,
    );
    return letter ?? assert.fail();
  }

  it('answers calls, each exactly once, with a service of the bundle behind them', async () => {
    await start(['r1']);
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => callFunc('count')));
    const values = outcomes.map(({ body }) => (JSON.parse(body) as { value: number }).value);
    assert.deepEqual(
      values.toSorted((a, b) => a - b),
      Array.from({ length: 100 }, (_, before) => before + 1),
    );
  });

  it('lets no func fetch what is not on the public internet', async () => {
    await start(['r1']);
    const { body } = await callFunc('reach', { meta: { query: { url: 'http://127.0.0.1:1/' } } });
    assert.equal(body, 'FORBIDDEN');
  });

  it('killed mid-call: a GET runs again elsewhere, a POST is RUNNER_LOST', async () => {
    await start(['r1', 'r2']);
    const get = callFunc('hold');
    const post = callFunc('hold', { mayRerun: false });
    await end(await holder(2), 'SIGKILL');
    assert.deepEqual(JSON.parse((await get).body), { attempt: 2 });
    assert.equal((await post).code, 'RUNNER_LOST');
  });

  it('cut off from the broker mid-call: answers once it is back, and runs nothing twice', async () => {
    const proxy = await openFaultProxy(Number(new URL(rabbit.url()).port));
    stack.push('proxy', proxy);
    await start(['r1'], {}, {}, proxy.through(rabbit.url()));
    const post = callFunc('wait', { mayRerun: false, meta: { query: { ms: '500' } } });
    await holder();
    proxy.refuse(true);
    proxy.cut();
    const key = StoreKey.kv(bundle.name, 'waited');
    await until('the func is done', async () => (await store.get(key))?.toString() === '1');
    proxy.refuse(false);
    const { status, body } = await post;
    assert.equal(status, 200);
    assert.deepEqual(JSON.parse(body), { attempt: 1 });
    await until('nothing is left', async () => reports.at(-1)?.revisions[0]?.inFlight === 0);
    await end('r1', 'SIGTERM');
    assert.equal((await broker.probe(bundle.queue))?.messages, 0);
  });

  it('runs as many calls at once as it has slots, when each comes in a message of its own', async () => {
    await start(['r1']);
    target = new RpcTarget(bundle.queue, 1);
    const calls = Array.from({ length: 100 }, () => callFunc('meet', { meta: { query: { all: '100' } } }));
    for (const { status } of await Promise.all(calls)) assert.equal(status, 200);
    assert.ok(((await broker.probe(bundle.queue))?.consumers ?? 0) > 1);
    await end('r1', 'SIGTERM');
    assert.deepEqual(await broker.probe(bundle.queue), { messages: 0, consumers: 0 });
  });

  it('outlives its workers: one that loops is killed, one that eats its memory is FUNC_CRASHED, others go on', async () => {
    await start(['r1'], { memoryMb: 64 });
    const spin = callFunc('spin', { timeoutMs: 500, mayRerun: false });
    assert.equal((await spin).code, 'timeout');
    assert.equal((await callFunc('echo')).status, 200);
    assert.equal((await callFunc('eat')).code, 'FUNC_CRASHED');
    assert.equal((await callFunc('echo')).status, 200);
  });

  it('drained with POSTs prefetched but not started: they run elsewhere, and do not look redelivered', async () => {
    await start(['r1'], { concurrency: 2, workers: { min: 1, max: 2 } }, { maxWorkers: 1 });
    const calls = Array.from({ length: 4 }, () =>
      callFunc('wait', { mayRerun: false, meta: { query: { ms: '1500' } } }),
    );
    await holder(4);
    await publishSnapshot(broker, store, snapshotOf(bundle.state(['r1', 'r2'])));
    await startRunner('r2');
    await until('both consume', async () => (await broker.probe(bundle.queue))?.consumers === 2);
    await end('r1', 'SIGTERM');
    for (const { status, body } of await Promise.all(calls)) {
      assert.equal(status, 200);
      assert.deepEqual(JSON.parse(body), { attempt: 1 });
    }
  });

  it('tries an event again and then puts it among the dead letters', async () => {
    await start(['r1'], {}, { eventAttempts: 2 });
    await publish('fail', { own: 'kept' });
    const { properties, body } = await deadLetter();
    assert.equal(body.toString(), 'payload');
    assert.equal(properties.headers?.['fn-error-code'], 'FUNC_ERROR');
    assert.equal(properties.headers?.['fn-error-message'], 'func fail threw (TypeError)');
    assert.equal(properties.headers?.['fn-attempts'], 2);
    assert.equal(properties.headers?.['own'], 'kept');
    assert.equal((await broker.probe(eventQueue(bundle.name)))?.messages, 0);
  });

  it('does not let a CC header bring an event back each time it is handed on', async () => {
    await start(['r1'], {}, { eventAttempts: 1 });
    // RabbitMQ routes a message to what CC names too: published to the default exchange, that is where it came from.
    await publish('fail', { CC: [eventQueue(bundle.name)] });
    const { properties } = await deadLetter();
    assert.equal(properties.headers?.['CC'], undefined);
    const queues = [eventQueue(bundle.name), deadQueue(bundle.name)];
    await publish('fail');
    await until('the last event died too', async () => (await broker.probe(queues[1] ?? ''))?.messages === 1);
    assert.equal((await broker.probe(queues[0] ?? ''))?.messages, 0);
  });

  it('leaves an event that cannot be published again to the dead-lettering of the broker', async () => {
    await start(['r1'], {}, { eventAttempts: 1 });
    // The client library takes the key "!" of a table for the type of a value.
    await publish('fail', { odd: { '!': 'object', value: { '!': 'nothing it knows' } } });
    const { properties } = await deadLetter();
    assert.deepEqual(properties.headers?.['odd'], { '!': 'nothing it knows' });
    assert.equal((await broker.probe(eventQueue(bundle.name)))?.messages, 0);
  });

  it('killed with an event: it runs elsewhere as its second attempt', async () => {
    await start(['r1', 'r2']);
    await publish('hold');
    await end(await holder(), 'SIGKILL');
    const key = StoreKey.kv(bundle.name, 'held');
    await until('it ran elsewhere', async () => (await store.get(key))?.toString() === '2');
    await until('nothing is left', async () => (await broker.probe(eventQueue(bundle.name)))?.messages === 0);
    assert.equal(await broker.take(deadQueue(bundle.name)), undefined);
  });

  it('serves from its disk when it starts while the store is empty and nobody leads', async () => {
    await start(['r1']);
    await end('r1', 'SIGTERM');
    for (const key of await store.keys('')) await store.delete(key);
    await startRunner('r1');
    await until('it consumes', async () => (await broker.probe(bundle.queue))?.consumers === 1);
    assert.equal((await callFunc('echo')).status, 200);
  });

  describe('for a program that is not ours', () => {
    before('amqp-tools', async function () {
      await startOrSkip(this, findAmqpTools);
    });

    it('answers JSON sent by amqp-publish where reply_to says', async () => {
      await start(['r1']);
      const answers = `answers-${newId()}`;
      await broker.declare({ queues: [{ name: answers, durable: false, arguments: {} }] });
      await run('amqp-publish', [
        `--url=${rabbit.url()}`,
        `--exchange=${CALL_EXCHANGE}`,
        `--routing-key=${callKey(bundle.name, 'echo')}`,
        `--reply-to=${answers}`,
        '--content-type=application/json',
        '--body={"from":"elsewhere"}',
      ]);
      let printed = '';
      await until('the answer', async () => {
        const got = await run('amqp-get', ['--url', rabbit.url(), '-q', answers]).catch(() => undefined);
        printed = got?.stdout ?? '';
        return printed !== '';
      });
      const reply = JSON.parse(printed) as { attempt: number; body: string };
      assert.equal(reply.body, '{"from":"elsewhere"}');
      await broker.deleteQueue(answers);
    });
  });

  it('answers on server-named queues and by direct reply-to', async () => {
    await start(['r1']);
    const client = await connect(rabbit.url());
    const channel = await client.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const replyTo of [queue, 'amq.rabbitmq.reply-to']) {
      const answered = new Promise<ConsumeMessage | null>((resolve) => {
        void channel.consume(replyTo, resolve, { noAck: true }).then(() => {
          const options = { replyTo, correlationId: 'c', contentType: 'text/plain', messageId: newId() };
          channel.publish(CALL_EXCHANGE, callKey(bundle.name, 'echo'), Buffer.from('hello'), options);
        });
      });
      const message = await answered;
      assert.equal(message?.properties.correlationId, 'c');
      assert.equal(message?.properties.headers?.['fn-status'], 200);
      assert.equal((JSON.parse(message?.content.toString() ?? '') as { body: string }).body, 'hello');
    }
    await client.close();
  });
});

async function findAmqpTools(): Promise<void> {
  if (!existsSync('/usr/bin/amqp-publish'))
    throw new NoServer('amqp-publish: not installed (apt-get install amqp-tools)');
}
