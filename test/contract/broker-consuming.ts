import assert from 'node:assert/strict';
import type { Delivery } from '../../core/broker/broker.ts';
import { until } from '../helpers/until.ts';
import { send, texts, uniqueName, type Contract } from './broker-messages.ts';

/** The part of the broker contract about consumers. */
export function describeConsuming(contract: Contract): void {
  it('delivers in the order of publishing', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const expected = Array.from({ length: 1_000 }, (_, i) => `${i}`);
    const got: Delivery[] = [];
    const consumer = await broker.consume(queue, { prefetch: 50 }, (delivery) => {
      got.push(delivery);
      delivery.ack();
    });
    await Promise.all(expected.map((text) => send(broker, queue, text)));
    await until('all arrive', () => got.length === expected.length);
    assert.deepEqual(texts(got), expected);
    await consumer.cancel();
  });

  it('holds at most prefetch deliveries unacknowledged at a consumer', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const got: Delivery[] = [];
    const consumer = await broker.consume(queue, { prefetch: 2 }, (delivery) => got.push(delivery));
    for (const text of ['1', '2', '3', '4']) await send(broker, queue, text);
    await until('two arrive', () => got.length === 2);
    await until('the rest waits', async () => (await broker.probe(queue))?.messages === 2);
    got[0]?.ack();
    await until('the third arrives', () => got.length === 3);
    got[1]?.reject();
    await until('the fourth arrives', () => got.length === 4);
    assert.deepEqual(texts(got), ['1', '2', '3', '4']);
    for (const delivery of got) delivery.ack();
    await consumer.cancel();
  });

  it('shares a queue between its consumers', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const got: [Delivery[], Delivery[]] = [[], []];
    const consumers = [
      await broker.consume(queue, { prefetch: 1 }, (delivery) => got[0].push(delivery)),
      await broker.consume(queue, { prefetch: 1 }, (delivery) => got[1].push(delivery)),
    ];
    await send(broker, queue, 'a');
    await send(broker, queue, 'b');
    await until('each has one', () => got[0].length === 1 && got[1].length === 1);
    assert.equal((await broker.probe(queue))?.consumers, 2);
    for (const delivery of got.flat()) delivery.ack();
    for (const consumer of consumers) await consumer.cancel();
  });

  it('takes an acknowledgement once, however often it is given', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const got: Delivery[] = [];
    const consumer = await broker.consume(queue, { prefetch: 1 }, (delivery) => got.push(delivery));
    for (const text of ['1', '2', '3']) await send(broker, queue, text);
    await until('the first arrives', () => got.length === 1);
    got[0]?.ack();
    got[0]?.ack();
    got[0]?.reject();
    await until('the second arrives', () => got.length === 2);
    assert.equal((await broker.probe(queue))?.messages, 1, 'the third waits for the second');
    got[1]?.ack();
    await until('the third arrives', () => got.length === 3);
    got[2]?.ack();
    await consumer.cancel();
  });

  it('delivers again, and says so, what a dead consumer held', async () => {
    const queue = await contract.queue();
    const other = await contract.another();
    const held: Delivery[] = [];
    await other.consume(queue, { prefetch: 10 }, (delivery) => held.push(delivery));
    await send(contract.broker, queue, 'settled');
    await send(contract.broker, queue, 'held');
    await until('both arrive', () => held.length === 2);
    assert.ok(held.every((delivery) => !delivery.redelivered && delivery.alive));
    held[0]?.ack();
    await until('one is left', async () => (await contract.broker.probe(queue))?.messages === 0);
    await other.close();
    assert.equal(held[1]?.alive, false);
    held[1]?.ack(); // nobody hears it
    const again: Delivery[] = [];
    const consumer = await contract.broker.consume(queue, { prefetch: 10 }, (delivery) => again.push(delivery));
    await until('it comes again', () => again.length > 0);
    assert.deepEqual(texts(again), ['held']);
    assert.equal(again[0]?.redelivered, true);
    again[0].ack();
    await consumer.cancel();
  });

  it('leaves with a cancelled consumer what it was given', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const got: Delivery[] = [];
    const consumer = await broker.consume(queue, { prefetch: 3 }, (delivery) => got.push(delivery));
    assert.equal(consumer.queue, queue);
    for (const text of ['1', '2', '3', '4']) await send(broker, queue, text);
    await until('three arrive', () => got.length === 3);
    await consumer.cancel();
    await consumer.cancel();
    assert.deepEqual(await broker.probe(queue), { messages: 1, consumers: 0 });
    const later: Delivery[] = [];
    const second = await broker.consume(queue, { prefetch: 10 }, (delivery) => later.push(delivery));
    await until('the fourth arrives elsewhere', () => later.length === 1);
    assert.ok(got.every((delivery) => delivery.alive));
    for (const delivery of [...got, ...later]) delivery.ack();
    await second.cancel();
    assert.equal(got.length, 3, 'nothing after the cancel');
    assert.ok(!later[0]?.redelivered);
    await until('all are settled', async () => (await broker.deleteQueue(queue)) === 0);
  });

  it('delivers without acknowledgements where no prefetch is given', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const got: Delivery[] = [];
    const consumer = await broker.consume(queue, {}, (delivery) => got.push(delivery));
    for (let i = 0; i < 100; i++) await send(broker, queue, `${i}`);
    await until('all arrive', () => got.length === 100);
    got[0]?.ack();
    got[1]?.reject();
    assert.deepEqual(await broker.probe(queue), { messages: 0, consumers: 1 });
    await consumer.cancel();
    await send(broker, queue, 'after');
    assert.deepEqual(await broker.probe(queue), { messages: 1, consumers: 0 });
    assert.equal(got.length, 100);
  });

  it('goes on delivering when a receiver throws', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const got: string[] = [];
    const consumer = await broker.consume(queue, { prefetch: 1 }, (delivery) => {
      got.push(delivery.body.toString());
      if (got.length === 1) throw new Error('a receiver with a defect');
      delivery.ack();
    });
    await send(broker, queue, '1');
    await send(broker, queue, '2');
    await until('both arrive', () => got.length === 2);
    await consumer.cancel();
  });

  it('says once that a queue nobody declared is gone', async () => {
    let gone = 0;
    const consumer = await contract.broker.consume(uniqueName(), { prefetch: 1, onGone: () => gone++ }, () => {});
    await until('it is gone', () => gone === 1);
    await consumer.cancel();
    assert.equal(gone, 1);
  });

  it('says so when a queue it did not declare is deleted under its consumer', async () => {
    const queue = await contract.queue();
    const other = await contract.another();
    let gone = 0;
    await other.consume(queue, { prefetch: 1, onGone: () => gone++ }, () => {});
    await contract.broker.deleteQueue(queue);
    await until('it is gone', () => gone === 1);
    assert.equal(await other.probe(queue), undefined);
  });

  it('declares its own queue again when somebody deletes it, and goes on consuming', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    const other = await contract.another();
    const got: Delivery[] = [];
    const consumer = await broker.consume(queue, { prefetch: 1, onGone: () => assert.fail('gone') }, (delivery) => {
      got.push(delivery);
      delivery.ack();
    });
    await other.deleteQueue(queue);
    await until('it is back', async () => (await other.probe(queue))?.consumers === 1);
    await send(other, queue, 'after');
    await until('it arrives', () => got.length === 1);
    await consumer.cancel();
  });
}
