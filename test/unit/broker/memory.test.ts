import assert from 'node:assert/strict';
import type { Delivery, MessageProperties, PublishOutcome } from '../../../core/broker/broker.ts';
import { openMemoryBroker, type MemoryBroker } from '../../../core/broker/memory.ts';
import { createLog } from '../../../core/log.ts';
import { until } from '../../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/broker/memory', () => {
  let broker: MemoryBroker;
  beforeEach(async () => {
    broker = await openMemoryBroker({ file: undefined, log, maxBytes: 10_000 });
  });
  afterEach(() => broker.close());

  async function declare(name: string, args: Record<string, string | number> = {}): Promise<void> {
    await broker.declare({ queues: [{ name, durable: true, arguments: args }] });
  }
  function send(queue: string, text: string, properties: MessageProperties = {}): Promise<PublishOutcome> {
    return broker.publish({ exchange: '', routingKey: queue, body: Buffer.from(text), properties, mandatory: true });
  }
  async function messages(queue: string): Promise<number | undefined> {
    return (await broker.probe(queue))?.messages;
  }
  async function drain(queue: string): Promise<string[]> {
    const texts: string[] = [];
    for (let next = await broker.take(queue); next !== undefined; next = await broker.take(queue)) {
      texts.push(next.body.toString());
    }
    return texts;
  }

  it('carries a body without copying it, and never inside the call that published it', async () => {
    await declare('q');
    const body = Buffer.from('hello');
    const got: Delivery[] = [];
    await broker.consume('q', {}, (delivery) => got.push(delivery));
    const publishing = broker.publish({ exchange: '', routingKey: 'q', body, properties: {} });
    assert.equal(got.length, 0);
    assert.equal(await publishing, 'accepted');
    await until('it arrives', () => got.length === 1);
    assert.equal(got[0]?.body, body);
  });

  it('gives other callbacks their turn while consumers answer each other for ever', async () => {
    await declare('ping');
    let rounds = 0;
    await broker.consume('ping', {}, () => {
      rounds++;
      void send('ping', 'again');
    });
    await send('ping', 'first');
    await until('many rounds went by', () => rounds > 100);
  });

  it('delivers a long backlog in pieces, so that sockets are served in between', async () => {
    await declare('q');
    for (let i = 0; i < 2_000; i++) void send('q', '');
    await send('q', '');
    const perTurn: number[] = [];
    let inTurn = 0;
    let total = 0;
    await broker.consume('q', {}, () => {
      if (inTurn++ === 0) setImmediate(() => (perTurn.push(inTurn), (inTurn = 0)));
      total++;
    });
    await until('all arrive', () => total === 2_001 && inTurn === 0);
    assert.ok(perTurn.length >= 4, `${perTurn.length} turns`);
  });

  it('puts what a dead consumer held back where it stood, also between what others held', async () => {
    await declare('q');
    const [first, second] = [broker.connect(), broker.connect()];
    const held: string[][] = [[], []];
    await first.consume('q', { prefetch: 2 }, (delivery) => held[0]?.push(String(delivery.body)));
    await second.consume('q', { prefetch: 2 }, (delivery) => held[1]?.push(String(delivery.body)));
    for (const text of ['1', '2', '3', '4', '5', '6']) await send('q', text);
    await until('both are full', () => held.flat().length === 4);
    assert.deepEqual(held, [
      ['1', '3'],
      ['2', '4'],
    ]);
    await second.close();
    await first.close();
    assert.deepEqual(await drain('q'), ['1', '2', '3', '4', '5', '6']);
  });

  it('takes no answer for a delivery whose consumer died, nor for one that came back', async () => {
    await declare('q', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' });
    await declare('dead');
    const other = broker.connect();
    let stale: Delivery | undefined;
    await other.consume('q', { prefetch: 1 }, (delivery) => (stale = delivery));
    await send('q', 'x');
    await until('it arrives', () => stale !== undefined);
    await other.close();
    assert.equal(stale?.alive, false);
    stale.reject();
    stale.ack();
    assert.equal(await messages('q'), 1);
    assert.equal((await broker.take('q'))?.redelivered, true);
    assert.equal(await messages('dead'), 0);
  });

  it('dead-letters a message that came back more often than its limit', async () => {
    await declare('dead');
    await declare('q', {
      'x-queue-type': 'quorum',
      'x-delivery-limit': 2,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'dead',
    });
    await send('q', 'poison');
    for (let life = 1; life <= 3; life++) {
      assert.equal(await messages('q'), 1, `before life ${life}`);
      const victim = broker.connect();
      let has = false;
      await victim.consume('q', { prefetch: 1 }, () => (has = true));
      await until('it has it', () => has);
      await victim.close();
    }
    await until('it is dead', async () => (await messages('dead')) === 1);
    assert.equal(await messages('q'), 0);
  });

  it('does not count for a limit what free consumers take at once', async () => {
    await declare('q', { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    const consumer = await broker.consume('q', { prefetch: 2 }, () => {});
    const outcomes = await Promise.all(['1', '2', '3', '4'].map((text) => send('q', text)));
    assert.deepEqual(outcomes, ['accepted', 'accepted', 'accepted', 'refused']);
    await consumer.cancel();
    assert.equal(await messages('q'), 1);
  });

  it('drops the oldest beyond a limit only after free consumers had theirs', async () => {
    await declare('q', { 'x-max-length': 2 });
    const got: string[] = [];
    await broker.consume('q', { prefetch: 1 }, (delivery) => got.push(String(delivery.body)));
    await Promise.all(['1', '2', '3', '4'].map((text) => send('q', text)));
    await until('the first arrives', () => got.length === 1);
    assert.deepEqual(got, ['1']);
    assert.deepEqual(await drain('q'), ['3', '4']);
  });

  it('never delivers an expired message, but lets one wait behind a live one', async () => {
    await declare('q');
    await send('q', 'live', { expirationMs: 60_000 });
    await send('q', 'short', { expirationMs: 20 });
    await declare('clock', { 'x-message-ttl': 40 });
    await send('clock', 'x');
    await until('its time is over', async () => (await messages('clock')) === 0);
    assert.equal(await messages('q'), 2, 'it still counts');
    const got: string[] = [];
    await broker.consume('q', {}, (delivery) => got.push(String(delivery.body)));
    await until('the live one arrives', () => got.length === 1);
    assert.equal(await messages('q'), 0);
    assert.deepEqual(got, ['live']);
  });

  it('keeps trying where a dead letter has to go at least once', async function () {
    const deadLetters = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'later', 'x-message-ttl': 5 };
    const atLeastOnce = { 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' };
    await declare('q', { 'x-queue-type': 'quorum', ...deadLetters, ...atLeastOnce });
    await declare('fickle', deadLetters);
    await send('fickle', 'dropped');
    await until('it expired', async () => (await messages('fickle')) === 0);
    await send('q', 'kept');
    await until('it expired, too', async () => (await messages('q')) === 0);
    await declare('later');
    await until('it comes', async () => (await messages('later')) === 1);
    assert.deepEqual(await drain('later'), ['kept']);
  });

  it('refuses more bytes than it may hold, until some are gone', async () => {
    await declare('q');
    await declare('other');
    assert.equal(await send('q', 'x'.repeat(6_000)), 'accepted');
    assert.equal(await send('other', 'x'.repeat(6_000)), 'refused');
    let held: Delivery | undefined;
    await broker.consume('q', { prefetch: 1 }, (delivery) => (held = delivery));
    await until('it is delivered', () => held !== undefined);
    assert.equal(await send('other', 'x'.repeat(6_000)), 'refused', 'what is not acknowledged is held');
    held?.ack();
    assert.equal(await send('other', 'x'.repeat(6_000)), 'accepted');
    await broker.deleteQueue('other');
    assert.equal(await send('q', 'x'.repeat(10_000)), 'accepted');
  });

  it('counts no byte twice, however a message ends', async () => {
    await declare('gone', { 'x-message-ttl': 1 });
    await declare('dead');
    await declare('expires', { 'x-message-ttl': 1, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' });
    await declare('short', { 'x-max-length': 0 });
    await declare('full', { 'x-max-length': 0, 'x-overflow': 'reject-publish' });
    for (const queue of ['gone', 'expires', 'short', 'full', 'nowhere']) await send(queue, 'x'.repeat(4_000));
    await until('it is dead', async () => (await messages('dead')) === 1);
    await until('it is gone', async () => (await messages('gone')) === 0);
    const other = broker.connect();
    let has = false;
    await other.consume('dead', { prefetch: 1 }, () => (has = true));
    await until('it is held', () => has);
    await broker.deleteQueue('dead');
    await other.close();
    await declare('q');
    assert.equal(await send('q', 'x'.repeat(10_000)), 'accepted');
    await drain('q');
    assert.equal(await send('q', 'x'.repeat(10_000)), 'accepted');
    assert.equal(await send('q', 'x'), 'refused');
  });

  it('loses a message for an exchange that does not exist', async () => {
    const message = { routingKey: 'k', body: Buffer.from('x'), properties: {} };
    assert.equal(await broker.publish({ exchange: 'none', ...message }), 'lost');
  });

  it('asks alternate exchanges in a circle only once each', async () => {
    await broker.declare({
      exchanges: ['a', 'b'].map((name) => ({
        name,
        type: 'direct',
        durable: true,
        arguments: { 'alternate-exchange': name === 'a' ? 'b' : 'a' },
      })),
    });
    const message = { exchange: 'a', routingKey: 'k', body: Buffer.from('x'), properties: {}, mandatory: true };
    assert.equal(await broker.publish(message), 'returned');
  });

  it('refuses a binding to what does not exist, and arguments it cannot keep', async () => {
    const binding = { exchange: 'none', queue: 'none', key: '' };
    await assert.rejects(broker.declare({ bindings: [binding] }), { code: 'INTERNAL', message: /exchange "none"/ });
    await assert.rejects(declare('q', { 'x-max-length': -1 }), { code: 'INTERNAL', message: /x-max-length of -1/ });
    await assert.rejects(declare('q', { 'x-overflow': 'reject-publish-dlx' }), { code: 'INTERNAL' });
    await assert.rejects(declare('q', { 'x-delivery-limit': 3 }), { code: 'INTERNAL' }, 'a classic queue has none');
    assert.equal(await broker.probe('q'), undefined);
  });

  it('settles what was published when it closes, and takes the other handles along', async () => {
    await declare('q');
    const other = broker.connect();
    const states: string[] = [];
    other.onState(({ state }) => states.push(state));
    const publishing = other.publish({ exchange: '', routingKey: 'q', body: Buffer.from('x'), properties: {} });
    await broker.close();
    assert.equal(await publishing, 'accepted');
    assert.equal(other.state, 'closed');
    assert.deepEqual(states, ['closed']);
    assert.equal(await send('q', 'late'), 'down');
    await assert.rejects(other.probe('q'), { code: 'BROKER_DOWN' });
  });
});
