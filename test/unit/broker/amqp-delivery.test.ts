import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Channel, Message } from '../../../core/broker/amqp-connection.ts';
import { ConsumerChannel } from '../../../core/broker/amqp-delivery.ts';
import type { Delivery } from '../../../core/broker/broker.ts';
import { createLog } from '../../../core/log.ts';
import { until } from '../../helpers/until.ts';

/** A channel that only writes down what is asked of it. */
class WrittenChannel extends EventEmitter {
  readonly said: string[] = [];
  deliver: (message: Message) => void = () => {};
  prefetch(): Promise<void> {
    return Promise.resolve();
  }
  consume(_queue: string, deliver: (message: Message) => void): Promise<void> {
    this.deliver = deliver;
    return Promise.resolve();
  }
  ack({ fields }: Message): void {
    this.said.push(`ack ${fields.deliveryTag}`);
  }
  reject({ fields }: Message): void {
    this.said.push(`reject ${fields.deliveryTag}`);
  }
  cancel(): Promise<void> {
    this.said.push('cancel');
    return Promise.resolve();
  }
  close(): Promise<void> {
    this.said.push('close');
    return Promise.resolve();
  }
}

describe('core/broker/amqp-delivery', () => {
  let channel: WrittenChannel;
  let consumer: ConsumerChannel;
  let deliveries: Delivery[];

  async function consume(prefetch: number, messages: number): Promise<void> {
    channel = new WrittenChannel();
    deliveries = [];
    const log = createLog({ level: 'silent', role: 'test' });
    consumer = new ConsumerChannel(channel as unknown as Channel, (delivery) => deliveries.push(delivery), log);
    await consumer.consume('queue', prefetch, () => {});
    for (let each = 0; each < messages; each++) deliver();
  }
  function deliver(): void {
    const fields = { deliveryTag: deliveries.length, redelivered: false, exchange: '', routingKey: 'queue' };
    channel.deliver({ content: Buffer.alloc(0), fields, properties: {} } as unknown as Message);
  }
  function ack(...tags: number[]): void {
    for (const tag of tags) deliveries[tag]?.ack();
  }

  it('holds acknowledgements back while the broker may deliver, and for a few ms only', async () => {
    await consume(4, 2);
    ack(0, 1);
    assert.deepEqual(channel.said, []);
    await until('they left', () => channel.said.length === 2);
    assert.deepEqual(channel.said, ['ack 0', 'ack 1']);
  });

  it('sends them when the broker could deliver nothing more', async () => {
    await consume(4, 3);
    ack(1, 0);
    assert.deepEqual(channel.said, []);
    deliver();
    assert.deepEqual(channel.said, ['ack 1', 'ack 0']);
  });

  it('holds none back where each of them is waited for', async () => {
    await consume(2, 2);
    ack(0);
    assert.deepEqual(channel.said, ['ack 0']);
    deliver();
    ack(2);
    assert.deepEqual(channel.said, ['ack 0', 'ack 2']);
  });

  it('rejects at once', async () => {
    await consume(4, 2);
    ack(0);
    deliveries[1]?.reject();
    assert.deepEqual(channel.said, ['reject 1']);
  });

  it('sends what it holds before it closes its channel, and later ones at once', async () => {
    await consume(4, 3);
    ack(0);
    await consumer.retire();
    assert.deepEqual(channel.said, ['cancel', 'ack 0']);
    ack(1);
    assert.deepEqual(channel.said, ['cancel', 'ack 0', 'ack 1']);
    ack(2);
    assert.deepEqual(channel.said, ['cancel', 'ack 0', 'ack 1', 'ack 2', 'close']);
  });

  it('says nothing on a channel that closed', async () => {
    await consume(4, 2);
    ack(0);
    channel.emit('close');
    ack(1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(channel.said, []);
  });
});
