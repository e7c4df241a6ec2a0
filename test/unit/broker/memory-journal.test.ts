import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MessageProperties } from '../../../core/broker/broker.ts';
import { openMemoryBroker, type MemoryBroker } from '../../../core/broker/memory.ts';
import { createLog } from '../../../core/log.ts';
import { eventTopology, retryQueue, retryTopology } from '../../../core/wire/topology.ts';
import { until } from '../../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/broker/memory-journal', () => {
  let folder: string;
  let broker: MemoryBroker;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'funcatron-journal-'));
    broker = await open();
  });
  afterEach(async () => {
    await broker.close();
    await rm(folder, { recursive: true });
  });

  function open(): Promise<MemoryBroker> {
    return openMemoryBroker({ file: join(folder, 'a', 'broker.db'), log });
  }
  async function reopen(): Promise<void> {
    await broker.close();
    broker = await open();
  }
  async function send(queue: string, text: string, properties: MessageProperties = {}): Promise<void> {
    const message = { exchange: '', routingKey: queue, body: Buffer.from(text), properties };
    assert.equal(await broker.publish(message), 'accepted');
  }
  async function drain(queue: string): Promise<[text: string, redelivered: boolean][]> {
    const taken: [string, boolean][] = [];
    for (let next = await broker.take(queue); next !== undefined; next = await broker.take(queue)) {
      taken.push([next.body.toString(), next.redelivered]);
    }
    return taken;
  }

  it('keeps durable exchanges, queues and bindings, and nothing of the others', async () => {
    const spec = { type: 'direct', arguments: {} } as const;
    await broker.declare({
      exchanges: [
        { name: 'durable', durable: true, ...spec },
        { name: 'passing', durable: false, ...spec },
      ],
      queues: [
        { name: 'kept', durable: true, arguments: { 'x-max-length': 7 } },
        { name: 'gone', durable: false, arguments: {} },
      ],
      bindings: [
        { exchange: 'durable', queue: 'kept', key: 'k' },
        { exchange: 'durable', queue: 'gone', key: 'k' },
        { exchange: 'passing', queue: 'kept', key: 'k' },
      ],
    });
    await send('gone', 'x', { persistent: true });
    await reopen();
    assert.equal(await broker.probe('gone'), undefined);
    const message = { routingKey: 'k', body: Buffer.from('x'), properties: {}, mandatory: true };
    assert.equal(await broker.publish({ exchange: 'passing', ...message }), 'lost');
    assert.equal(await broker.publish({ exchange: 'durable', ...message }), 'accepted');
    assert.deepEqual(await broker.probe('kept'), { messages: 1, consumers: 0 });
    const other = { name: 'kept', durable: true, arguments: { 'x-max-length': 8 } };
    await assert.rejects(broker.declare({ queues: [other] }), { code: 'INTERNAL' });
  });

  it('keeps the order, and of transient messages only those in quorum queues', async () => {
    await broker.declare({
      queues: [
        { name: 'classic', durable: true, arguments: {} },
        { name: 'quorum', durable: true, arguments: { 'x-queue-type': 'quorum' } },
      ],
    });
    for (const queue of ['classic', 'quorum']) {
      for (let i = 0; i < 5; i++) await send(queue, String(i), { persistent: i % 2 === 0 });
    }
    await reopen();
    assert.deepEqual((await drain('classic')).map(([text]) => text).join(''), '024');
    assert.deepEqual((await drain('quorum')).map(([text]) => text).join(''), '01234');
  });

  it('gives back as redelivered what consumers held at the end, and only that', async () => {
    await broker.declare({ queues: [{ name: 'q', durable: true, arguments: {} }] });
    for (const text of ['acked', 'rejected', 'held', 'waiting']) await send('q', text, { persistent: true });
    let held = 0;
    await broker.consume('q', { prefetch: 1 }, (delivery) => {
      const text = delivery.body.toString();
      if (text === 'acked') delivery.ack();
      else if (text === 'rejected') delivery.reject();
      else held++;
    });
    await until('one is held', () => held === 1);
    await reopen();
    assert.deepEqual(await drain('q'), [
      ['held', true],
      ['waiting', false],
    ]);
    await reopen();
    assert.deepEqual(await drain('q'), []);
  });

  it('forgets a deleted queue with its messages', async () => {
    await broker.declare({ queues: [{ name: 'q', durable: true, arguments: {} }] });
    await send('q', 'x', { persistent: true });
    assert.equal(await broker.deleteQueue('q'), 1);
    await reopen();
    assert.equal(await broker.probe('q'), undefined);
    await broker.declare({ queues: [{ name: 'q', durable: true, arguments: {} }] });
    await reopen();
    assert.deepEqual(await drain('q'), []);
  });

  it('forgets a binding that was taken away', async () => {
    const binding = { exchange: 'x', queue: 'q', key: 'k' };
    await broker.declare({
      exchanges: [{ name: 'x', type: 'direct', durable: true, arguments: {} }],
      queues: [{ name: 'q', durable: true, arguments: {} }],
      bindings: [binding],
    });
    await broker.unbind(binding);
    await reopen();
    const message = { exchange: 'x', routingKey: 'k', body: Buffer.from('x'), properties: {}, mandatory: true };
    assert.equal(await broker.publish(message), 'returned');
  });

  it('counts the unused time of a queue anew', async () => {
    await broker.declare({ queues: [{ name: 'q', durable: true, arguments: { 'x-expires': 150 } }] });
    await reopen();
    const message = { exchange: '', routingKey: 'q', body: Buffer.from('x'), properties: {}, mandatory: true };
    assert.equal(await broker.publish(message), 'accepted');
    await until('it expires', async () => (await broker.publish(message)) === 'returned');
    await reopen();
    assert.equal(await broker.publish(message), 'returned');
  });

  it('loses no dead letter that sets off while it closes', async () => {
    await broker.declare(eventTopology('orders'));
    for (const text of ['1', '2', '3']) await send('ev.orders', text, { persistent: true });
    const closed = Promise.withResolvers<void>();
    await broker.consume('ev.orders', { prefetch: 3 }, (delivery) => {
      delivery.reject();
      if (delivery.body.toString() === '2') closed.resolve(broker.close());
    });
    await closed.promise;
    broker = await open();
    const all = [...(await drain('ev.orders')), ...(await drain('dead.orders'))].map(([text]) => text);
    assert.deepEqual(all.toSorted(), ['1', '2', '3']);
  });

  it('wakes retries that waited through a restart, and keeps dead letters', async () => {
    await broker.declare(eventTopology('orders'));
    await broker.declare(retryTopology('orders', 1_000));
    await send(retryQueue('orders', 1_000), 'again', {
      persistent: true,
      messageId: 'm',
      headers: { 'fn-attempt': 2 },
    });
    await reopen();
    await until('it comes back', async () => (await broker.probe('ev.orders'))?.messages === 1);
    await reopen();
    await broker.consume('ev.orders', { prefetch: 1 }, (delivery) => {
      assert.deepEqual(delivery.properties, { persistent: true, messageId: 'm', headers: { 'fn-attempt': 2 } });
      delivery.reject();
    });
    await until('it is dead', async () => (await broker.probe('dead.orders'))?.messages === 1);
    await reopen();
    assert.deepEqual(await drain('dead.orders'), [['again', false]]);
    assert.deepEqual(await drain('ev.orders'), []);
  });
});
