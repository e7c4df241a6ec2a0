import assert from 'node:assert/strict';
import { MAX_BODY_BYTES, type Broker, type MessageProperties } from '../../core/broker/broker.ts';
import { newId } from '../../core/id.ts';
import { until } from '../helpers/until.ts';
import { describeConsuming } from './broker-consuming.ts';
import { send, uniqueName, type Contract } from './broker-messages.ts';
import { describeQueues } from './broker-queues.ts';

/** A broker to be held against the contract, freshly opened and ready. */
export interface BrokerUnderTest {
  readonly broker: Broker;
  cleanup(): Promise<void>;
  /** Another client of the same broker; whoever asked closes it. */
  another(): Promise<Broker>;
  /** Stops the broker itself and starts it again; the client to go on with, declared nothing, not necessarily a new one. */
  restart?(): Promise<Broker>;
}

/** What every broker does. `open` gives a new client of one and the same broker each time. */
export function describeBroker(name: string, open: () => Promise<BrokerUnderTest>): void {
  describe(name, () => {
    let subject: BrokerUnderTest;
    let others: Broker[] = [];

    beforeEach(async () => {
      subject = await open();
    });
    afterEach(async () => {
      for (const other of others) await other.close();
      others = [];
      await subject.cleanup();
    });

    const contract: Contract = {
      get broker() {
        return subject.broker;
      },
      async another() {
        const other = await subject.another();
        others.push(other);
        return other;
      },
      async queue(args = {}, queue = uniqueName()) {
        await subject.broker.declare({ queues: [{ name: queue, durable: true, arguments: args }] });
        return queue;
      },
    };
    describePublishing(contract);
    describeConsuming(contract);
    describeQueues(contract);

    it('keeps persistent messages over a restart of the broker, and loses transient ones', async function () {
      if (subject.restart === undefined) this.skip();
      this.timeout(60_000);
      const queue = await contract.queue();
      await send(subject.broker, queue, 'transient');
      await send(subject.broker, queue, 'persistent', { persistent: true });
      const broker = await subject.restart();
      assert.equal(await broker.ready(AbortSignal.timeout(30_000)), true);
      assert.equal((await broker.take(queue))?.body.toString(), 'persistent');
      assert.equal(await broker.take(queue), undefined);
      await broker.deleteQueue(queue);
    });

    it('takes nothing more once it is closed, and may be closed twice', async () => {
      const { broker } = subject;
      const queue = await contract.queue();
      await broker.deleteQueue(queue);
      await Promise.all([broker.close(), broker.close()]);
      assert.equal(broker.state, 'closed');
      assert.equal(await send(broker, queue, 'late'), 'down');
      assert.equal(await broker.ready(), false);
      await assert.rejects(broker.declare({ queues: [] }), { code: 'BROKER_DOWN' });
      await assert.rejects(
        broker.consume(queue, {}, () => {}),
        { code: 'BROKER_DOWN' },
      );
    });
  });
}

function describePublishing(contract: Contract): void {
  it('is ready', async () => {
    assert.equal(contract.broker.state, 'ready');
    assert.equal(await contract.broker.ready(), true);
  });

  it('accepts a message a queue takes, mandatory or not', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    assert.equal(await send(broker, queue, 'a'), 'accepted');
    assert.equal(await send(broker, queue, 'b', { persistent: true }, true), 'accepted');
    assert.equal((await broker.probe(queue))?.messages, 2);
  });

  it('returns a mandatory message no queue takes, and only that one, whatever else is on its way', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, (_, i) => send(broker, i % 3 === 0 ? `${queue}.missing` : queue, `${i}`, {}, true)),
    );
    assert.deepEqual(
      outcomes,
      Array.from({ length: 50 }, (_, i) => (i % 3 === 0 ? 'returned' : 'accepted')),
    );
    assert.equal(await send(broker, `${queue}.missing`, 'unasked'), 'accepted');
  });

  it('carries every property and every byte of the body', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const properties: Required<MessageProperties> = {
      contentType: 'application/json',
      correlationId: 'c-1',
      replyTo: 'somewhere',
      expirationMs: 60_000,
      messageId: newId(),
      timestamp: 1_790_000_000,
      type: 'calls',
      headers: { 'fn-status': 200, text: 'ä€', flag: true, deep: { list: [1, 'two'] } },
      persistent: true,
    };
    const body = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await broker.publish({ exchange: '', routingKey: queue, body, properties });
    const delivery = await broker.take(queue);
    assert.deepEqual(delivery?.properties, properties);
    assert.deepEqual(delivery.body, body);
    assert.equal(delivery.exchange, '');
    assert.equal(delivery.routingKey, queue);
    assert.equal(delivery.redelivered, false);
  });

  for (const bytes of [0, 1, 131_064, 131_065, 1024 * 1024]) {
    it(`carries a body of ${bytes} bytes`, async () => {
      const queue = await contract.queue();
      const body = Buffer.alloc(bytes, 'x');
      await contract.broker.publish({ exchange: '', routingKey: queue, body, properties: {} });
      assert.deepEqual((await contract.broker.take(queue))?.body, body);
    });
  }

  it('refuses a body no broker takes, and goes on', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const body = Buffer.alloc(MAX_BODY_BYTES + 1);
    assert.equal(await broker.publish({ exchange: '', routingKey: queue, body, properties: {} }), 'refused');
    assert.equal(await send(broker, queue, 'next'), 'accepted');
  });

  for (const expirationMs of [0, -5, 0.25, 20.5, Number.NaN]) {
    it(`takes a time to live of ${expirationMs} ms as a whole number of 1 or more`, async () => {
      const { broker } = contract;
      const queue = await contract.queue();
      assert.equal(await send(broker, queue, 'short', { expirationMs }), 'accepted');
      await until('it expires', async () => (await broker.probe(queue))?.messages === 0);
    });
  }

  it('refuses a declaration that contradicts an earlier one, and goes on', async () => {
    const { broker } = contract;
    const queue = await contract.queue({ 'x-max-length': 5 });
    const pending = Array.from({ length: 20 }, (_, i) => send(broker, queue, `${i}`));
    await assert.rejects(contract.queue({ 'x-max-length': 6 }, queue), { code: 'INTERNAL' });
    assert.deepEqual(new Set(await Promise.all(pending)), new Set(['accepted']));
    await contract.queue({ 'x-max-length': 5 }, queue);
  });
}
