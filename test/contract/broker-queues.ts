import assert from 'node:assert/strict';
import type { Broker, MessageProperties } from '../../core/broker/broker.ts';
import { CALL_EXCHANGE, eventTopology, UNROUTED_QUEUE } from '../../core/wire/topology.ts';
import { until } from '../helpers/until.ts';
import { drain, send, uniqueName, type Contract } from './broker-messages.ts';

/** The part of the broker contract about exchanges, and about what a queue's arguments mean. */
export function describeQueues(contract: Contract): void {
  describeExchanges(contract);
  describeLimits(contract);
  describeDeadLetters(contract);

  it('probes depth and consumers, and tells a queue that is not there', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    await send(broker, queue, 'a');
    assert.deepEqual(await broker.probe(queue), { messages: 1, consumers: 0 });
    assert.equal(await broker.probe(uniqueName()), undefined);
  });

  it('takes single messages out of a queue for good', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    await send(broker, queue, 'a', { messageId: 'm' });
    await send(broker, queue, 'b');
    const taken = await broker.take(queue);
    assert.equal(taken?.properties.messageId, 'm');
    assert.equal((await broker.probe(queue))?.messages, 1);
    assert.deepEqual(await drain(broker, queue), ['b']);
    assert.equal(await broker.take(uniqueName()), undefined);
  });

  it('deletes a queue with what it held, and does nothing where there is none', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    await send(broker, queue, 'a');
    await send(broker, queue, 'b');
    assert.equal(await broker.deleteQueue(queue), 2);
    assert.equal(await broker.deleteQueue(queue), 0);
    assert.equal(await broker.probe(queue), undefined);
  });
}

function describeExchanges(contract: Contract): void {
  it('routes by topic, and what matches nothing to the alternate exchange', async () => {
    const { broker } = contract;
    const [calls, unrouted, any, one, rest] = [uniqueName(), uniqueName(), uniqueName(), uniqueName(), uniqueName()];
    await broker.declare({
      exchanges: [
        { name: unrouted, type: 'fanout', durable: true, arguments: {} },
        { name: calls, type: 'topic', durable: true, arguments: { 'alternate-exchange': unrouted } },
      ],
      queues: [any, one, rest].map((name) => ({ name, durable: true, arguments: {} })),
      bindings: [
        { exchange: calls, queue: any, key: 'orders.#' },
        { exchange: calls, queue: one, key: 'orders.*' },
        { exchange: unrouted, queue: rest, key: '' },
      ],
    });
    const keys = ['orders', 'orders.get', 'orders.get.all', 'pets.get', 'ordersx.get'];
    for (const key of keys) assert.equal(await publish(broker, calls, key, key, {}, true), 'accepted');
    assert.deepEqual(await drain(broker, any), ['orders', 'orders.get', 'orders.get.all']);
    assert.deepEqual(await drain(broker, one), ['orders.get']);
    assert.deepEqual(await drain(broker, rest), ['pets.get', 'ordersx.get']);
  });

  it('takes a binding away: the queue keeps what it holds and gets no more, until it is bound again', async () => {
    const { broker } = contract;
    const [exchange, queue] = [uniqueName(), uniqueName()];
    const binding = { exchange, queue, key: 'orders.#' };
    const topology = {
      exchanges: [{ name: exchange, type: 'topic', durable: true, arguments: {} }],
      queues: [{ name: queue, durable: true, arguments: {} }],
      bindings: [binding, { exchange, queue, key: 'pets' }],
    } as const;
    const publish = (routingKey: string) =>
      broker.publish({ exchange, routingKey, body: Buffer.from(routingKey), properties: {}, mandatory: true });
    await broker.declare(topology);
    assert.equal(await publish('orders.get'), 'accepted');
    await broker.unbind(binding);
    await broker.unbind(binding);
    assert.deepEqual(await Promise.all([publish('orders.get'), publish('pets')]), ['returned', 'accepted']);
    await broker.declare(topology);
    assert.equal(await publish('orders.put'), 'accepted');
    assert.deepEqual(await drain(broker, queue), ['orders.get', 'pets', 'orders.put']);
    await broker.deleteQueue(queue);
    await broker.unbind(binding);
  });

  it('gives a fanout message to every queue bound, once', async () => {
    const { broker } = contract;
    const [exchange, first, second] = [uniqueName(), uniqueName(), uniqueName()];
    await broker.declare({
      exchanges: [{ name: exchange, type: 'fanout', durable: true, arguments: {} }],
      queues: [first, second].map((name) => ({ name, durable: true, arguments: {} })),
      bindings: [first, first, second].map((queue, i) => ({ exchange, queue, key: i === 1 ? 'again' : '' })),
    });
    await publish(broker, exchange, 'any', 'news');
    assert.deepEqual(await drain(broker, first), ['news']);
    assert.deepEqual(await drain(broker, second), ['news']);
  });

  it('takes public calls of a bundle and keeps the rest, as core/wire/topology says', async () => {
    const { broker } = contract;
    const bundle = uniqueName().replaceAll('.', '-');
    const topology = eventTopology(bundle);
    await broker.declare(topology);
    await broker.declare(topology);
    await broker.deleteQueue(UNROUTED_QUEUE);
    await broker.declare(topology);
    assert.equal(await publish(broker, CALL_EXCHANGE, `${bundle}.get.it`, 'mine', { persistent: true }), 'accepted');
    assert.equal(await publish(broker, CALL_EXCHANGE, 'nobody.get', 'lost', { persistent: true }), 'accepted');
    assert.deepEqual(await drain(broker, `ev.${bundle}`), ['mine']);
    assert.deepEqual(await drain(broker, UNROUTED_QUEUE), ['lost']);
    for (const { name } of topology.queues ?? []) await broker.deleteQueue(name);
  });
}

function describeLimits(contract: Contract): void {
  it('refuses what a full queue does not take', async () => {
    const { broker } = contract;
    const queue = await contract.queue({ 'x-max-length': 2, 'x-overflow': 'reject-publish' });
    const outcomes = [];
    for (const text of ['1', '2', '3']) outcomes.push(await send(broker, queue, text, {}, true));
    assert.deepEqual(outcomes, ['accepted', 'accepted', 'refused']);
    assert.deepEqual(await drain(broker, queue), ['1', '2']);
    assert.equal(await send(broker, queue, '4'), 'accepted');
  });

  it('refuses what is over the bytes a queue may hold', async () => {
    const { broker } = contract;
    const queue = await contract.queue({ 'x-max-length-bytes': 100, 'x-overflow': 'reject-publish' });
    assert.equal(await send(broker, queue, 'x'.repeat(90)), 'accepted');
    assert.equal(await send(broker, queue, 'x'.repeat(11)), 'refused');
    assert.equal(await send(broker, queue, 'x'.repeat(10)), 'accepted');
    assert.equal(await send(broker, queue, 'x'), 'refused');
  });

  it('drops the oldest where the queue says drop-head', async () => {
    const { broker } = contract;
    const queue = await contract.queue({ 'x-max-length': 2, 'x-overflow': 'drop-head' });
    for (const text of ['1', '2', '3']) assert.equal(await send(broker, queue, text), 'accepted');
    assert.deepEqual(await drain(broker, queue), ['2', '3']);
  });

  it('drops a message whose own time to live is over', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    await send(broker, queue, 'short', { expirationMs: 30 });
    await send(broker, queue, 'long', { expirationMs: 60_000 });
    await until('the first expires', async () => (await broker.probe(queue))?.messages === 1);
    assert.deepEqual(await drain(broker, queue), ['long']);
  });

  it('deletes a queue nobody used for its time', async () => {
    const { broker } = contract;
    const queue = await contract.queue({ 'x-expires': 100 });
    await send(broker, queue, 'a');
    // Publishing is no use of a queue; a probe would be.
    await until('it is gone', async () => (await send(broker, queue, 'b', {}, true)) === 'returned');
    assert.equal(await broker.probe(queue), undefined);
  });

  it('keeps a queue that expires while it has a consumer', async () => {
    const { broker } = contract;
    const queue = await contract.queue({ 'x-expires': 100 });
    const other = await contract.queue({ 'x-expires': 200 });
    const consumer = await broker.consume(queue, {}, () => {});
    await until('the other is gone', async () => (await send(broker, other, 'b', {}, true)) === 'returned');
    assert.equal(await send(broker, queue, 'a', {}, true), 'accepted');
    await consumer.cancel();
    await until('it is gone', async () => (await send(broker, queue, 'b', {}, true)) === 'returned');
  });
}

function describeDeadLetters(contract: Contract): void {
  it('sends an expired message on to where its queue dead-letters, properties and all: a retry rung', async () => {
    const { broker } = contract;
    const origin = await contract.queue();
    const rung = await contract.queue({
      'x-message-ttl': 50,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': origin,
    });
    await send(broker, rung, 'again', { messageId: 'm', headers: { 'fn-attempt': 2 }, persistent: true });
    assert.deepEqual(await drain(broker, origin), []);
    await until('it comes back', async () => (await broker.probe(origin))?.messages === 1);
    const delivery = await broker.take(origin);
    assert.equal(delivery?.body.toString(), 'again');
    assert.equal(delivery.routingKey, origin);
    assert.equal(delivery.redelivered, false);
    assert.equal(delivery.properties.messageId, 'm');
    assert.equal(delivery.properties.headers?.['fn-attempt'], 2);
    assert.equal(delivery.properties.persistent, true);
  });

  it('no longer expires a message that was dead-lettered for its own time to live', async () => {
    const { broker } = contract;
    const dead = await contract.queue();
    const queue = await contract.queue({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead });
    await send(broker, queue, 'late', { expirationMs: 20 });
    await until('it expires', async () => (await broker.probe(dead))?.messages === 1);
    assert.equal((await broker.take(dead))?.properties.expirationMs, undefined);
  });

  it('dead-letters what a receiver rejects', async () => {
    const { broker } = contract;
    const dead = await contract.queue();
    const queue = await contract.queue({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead });
    const consumer = await broker.consume(queue, { prefetch: 1 }, (delivery) => delivery.reject());
    await send(broker, queue, 'bad');
    await until('it is dead', async () => (await broker.probe(dead))?.messages === 1);
    assert.deepEqual(await drain(broker, dead), ['bad']);
    await consumer.cancel();
  });

  it('drops what a receiver rejects where nothing is said about dead letters', async () => {
    const { broker } = contract;
    const queue = await contract.queue();
    let rejected = 0;
    const consumer = await broker.consume(queue, { prefetch: 1 }, (delivery) => {
      rejected++;
      delivery.reject();
    });
    await send(broker, queue, '1');
    await send(broker, queue, '2');
    await until('both are rejected', () => rejected === 2);
    await consumer.cancel();
    assert.deepEqual(await drain(broker, queue), []);
  });

  it('dead-letters from quorum queues at least once', async () => {
    const { broker } = contract;
    const quorum = { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish' } as const;
    const dead = await contract.queue(quorum);
    const queue = await contract.queue({
      ...quorum,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': dead,
      'x-dead-letter-strategy': 'at-least-once',
    });
    const consumer = await broker.consume(queue, { prefetch: 1 }, (delivery) => delivery.reject());
    await send(broker, queue, 'bad', { persistent: true });
    await until('it is dead', async () => (await drain(broker, dead)).includes('bad'));
    await consumer.cancel();
  });
}

function publish(
  broker: Broker,
  exchange: string,
  routingKey: string,
  text: string,
  properties: MessageProperties = {},
  mandatory = false,
): Promise<string> {
  return broker.publish({ exchange, routingKey, body: Buffer.from(text), properties, mandatory });
}
