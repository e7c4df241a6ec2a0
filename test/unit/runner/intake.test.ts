import assert from 'node:assert/strict';
import type { Broker, Delivery } from '../../../core/broker/broker.ts';
import { openMemoryBroker } from '../../../core/broker/memory.ts';
import { TimerWheel } from '../../../core/deadline.ts';
import { delay } from '../../../core/lifecycle.ts';
import { Intake } from '../../../runner/intake.ts';
import { until } from '../../helpers/until.ts';
import { silent } from './test-runner.ts';

const QUEUE = 'fn.shop.aaaaaaaaaaaa';

describe('runner/intake', () => {
  let broker: Broker;
  let intake: Intake;
  let wheel: TimerWheel;
  let taken: Delivery[];
  /** Calls in each message, slots, and calls that wait beside those of the messages here. */
  let callsEach: number;
  let slots: number;

  /** With credit for 3 messages, and for at most 100. */
  async function open(messages: number): Promise<void> {
    broker = await openMemoryBroker({ file: undefined, log: silent });
    await broker.declare({ queues: [{ name: QUEUE, durable: true, arguments: {} }] });
    wheel = new TimerWheel();
    taken = [];
    intake = new Intake({
      broker,
      queue: QUEUE,
      least: 3,
      most: 100,
      wheel,
      log: silent,
      quietMs: 200,
      holding: () => ({
        deliveries: taken.length,
        calls: taken.length * callsEach,
        room: slots - taken.length * callsEach,
      }),
      onDelivery: (delivery) => taken.push(delivery),
    });
    await add(messages);
    await intake.open();
  }
  async function add(messages: number): Promise<void> {
    const body = Buffer.from('a');
    for (let each = 0; each < messages; each++)
      await broker.publish({ exchange: '', routingKey: QUEUE, body, properties: {} });
  }
  function settle(count: number): void {
    for (const delivery of taken.splice(0, count)) delivery.ack();
  }
  async function left(): Promise<number> {
    return (await broker.probe(QUEUE))?.messages ?? 0;
  }
  beforeEach(() => {
    callsEach = 1;
    slots = 100;
  });
  afterEach(async () => {
    await intake.close();
    wheel.close();
    await broker.close();
  });

  it('takes as many messages of one call as there are slots', async () => {
    await open(150);
    await until('the slots are full', () => taken.length === 100);
    await delay(100);
    assert.equal(taken.length, 100);
    assert.equal(intake.credit, 100);
  });

  it('takes no more full messages than it began with', async () => {
    callsEach = 33;
    await open(150);
    await until('the slots are full', () => taken.length === 3);
    await delay(100);
    assert.equal(taken.length, 3);
  });

  it('leaves to others what it has no slots for, by the size of the messages it holds', async () => {
    callsEach = 10;
    await open(150);
    await until('the slots are full', () => taken.length === 10);
    await delay(100);
    assert.equal(taken.length, 10);
  });

  it('takes more when slots become free although no message is done', async () => {
    callsEach = 33;
    await open(150);
    await until('the slots are full', () => taken.length === 3);
    callsEach = 1;
    await until('it takes more', () => taken.length === 100);
  });

  it('takes less again when calls wait for slots, and loses none of what it holds', async () => {
    await open(100);
    await until('all are here', () => taken.length === 100);
    slots = 10;
    await until('it is as it began', () => intake.credit === 3);
    await add(5);
    settle(90);
    slots = 100;
    await until('it takes more', () => taken.length === 15);
    settle(taken.length);
    assert.equal(await left(), 0);
  });

  it('gives up what it does not need when it is quiet', async () => {
    await open(12);
    await until('all are here', () => taken.length === 12);
    assert.ok(intake.credit > 3);
    settle(12);
    await until('it is as it began', () => intake.credit === 3);
  });

  it('holds on to nothing of the queue once it is closed, and what came can still be settled', async () => {
    await open(20);
    await until('all are here', () => taken.length === 20);
    const closing = intake.close();
    await add(3);
    await closing;
    assert.equal((await broker.probe(QUEUE))?.consumers, 0);
    settle(taken.length);
    assert.equal(await left(), 3);
  });
});
