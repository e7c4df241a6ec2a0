import assert from 'node:assert/strict';
import { pino } from 'pino';
import { openAmqpBroker, type AmqpOptions } from '../../core/broker/amqp.ts';
import type { Broker, BrokerChange, Delivery } from '../../core/broker/broker.ts';
import { newId } from '../../core/id.ts';
import { openFaultProxy, type FaultProxy } from '../helpers/fault-proxy.ts';
import { freePort } from '../helpers/servers/port.ts';
import { usePrivateRabbit } from '../helpers/servers/rabbitmq.ts';
import { until } from '../helpers/until.ts';

/** What stands in the broker's log so far. */
interface Line {
  readonly msg: string;
  readonly reason?: string;
}

describe('core/broker/amqp against a broker that fails', function () {
  this.timeout(60_000);
  const rabbit = usePrivateRabbit();
  let proxy: FaultProxy;
  let broker: Broker;
  let changes: BrokerChange[];
  let lines: Line[];
  let queue: string;

  beforeEach(async () => {
    proxy = await openFaultProxy(rabbit.server().port);
    queue = `faults.${newId()}`;
    open();
  });
  afterEach(async () => {
    await broker.close();
    await proxy.close();
  });

  /** A broker by way of the proxy; a heartbeat of 1 s notices silence after 2 to 3 s. */
  function open(options: Partial<AmqpOptions> = {}): void {
    lines = [];
    changes = [];
    const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(JSON.parse(line) as Line) });
    const urls = [proxy.through(rabbit.server().url())];
    broker = openAmqpBroker({ urls, connectionName: 'faults', heartbeatS: 1, log, ...options });
    broker.onState((change) => changes.push(change));
  }

  async function ready(): Promise<void> {
    assert.equal(await broker.ready(AbortSignal.timeout(30_000)), true, `not ready: ${JSON.stringify(lines)}`);
  }

  async function declare(): Promise<void> {
    await broker.declare({ queues: [{ name: queue, durable: true, arguments: {} }] });
  }

  function send(text: string, persistent = false): Promise<string> {
    const body = Buffer.from(text);
    return broker.publish({ exchange: '', routingKey: queue, body, properties: { persistent }, mandatory: true });
  }

  /** Consumes the queue, acknowledging; what arrives is in the array. */
  async function consume(): Promise<string[]> {
    const got: string[] = [];
    await broker.consume(queue, { prefetch: 10 }, (delivery) => {
      got.push(delivery.body.toString());
      delivery.ack();
    });
    return got;
  }

  /** Publishes until the consumer hears it: the way there and back works. */
  async function untilHeard(got: readonly string[]): Promise<void> {
    const text = newId();
    await until('a message is accepted', async () => (await send(text)) === 'accepted', 30_000);
    await until('a message is heard', () => got.includes(text));
  }

  it('declares and consumes again, and says restarted, when the broker was stopped and started', async () => {
    await ready();
    await declare();
    const exchange = `${queue}.x`;
    await broker.declare({ exchanges: [{ name: exchange, type: 'fanout', durable: false, arguments: {} }] });
    await broker.declare({ bindings: [{ exchange, queue, key: '' }] });
    const got = await consume();
    await rabbit.server().stop();
    await until('it is down', () => broker.state === 'down');
    assert.equal(await send('while down'), 'down');
    await rabbit.server().start();
    await ready();
    assert.deepEqual(changes.at(-1), { state: 'ready', restarted: true });
    await untilHeard(got);
    const body = Buffer.from('by way of the exchange');
    assert.equal(await broker.publish({ exchange, routingKey: '', body, properties: {}, mandatory: true }), 'accepted');
    await until('it arrives', () => got.includes('by way of the exchange'));
  });

  it('says not restarted when only its connections were closed, and keeps what waits in queues', async () => {
    await ready();
    await declare();
    await send('waits');
    for (let round = 1; round <= 2; round++) {
      const before = changes.length;
      await rabbit.server().ctl('close_all_connections', 'a test');
      await until('it has noticed', () => changes.length > before);
      await until('it is back', () => broker.state === 'ready');
      assert.deepEqual(changes.at(-1), { state: 'ready', restarted: false });
    }
    const got = await consume();
    await until('it is still there', () => got.includes('waits'));
  });

  it('notices a connection that is half open, and replaces it', async () => {
    await ready();
    await declare();
    const got = await consume();
    proxy.pause();
    const sent = send('into the void');
    await until('it is down', () => broker.state === 'down');
    assert.equal(await sent, 'lost');
    proxy.resume();
    await ready();
    assert.deepEqual(changes.at(-1), { state: 'ready', restarted: false });
    await untilHeard(got);
    await until('the dead sockets are gone', () => proxy.connections === 2);
  });

  it('outlives a broker that is stopped like a paused machine', async () => {
    await ready();
    await declare();
    const got = await consume();
    rabbit.server().pause();
    try {
      await until('it is down', () => broker.state === 'down');
    } finally {
      rabbit.server().resume();
    }
    await ready();
    assert.deepEqual(changes.at(-1), { state: 'ready', restarted: false });
    await untilHeard(got);
  });

  it('becomes ready although its connection is reset anywhere in the set-up', async () => {
    await ready();
    await declare();
    const got = await consume();
    // A handshake is about 600 bytes from the server, the set-up after it 200 more.
    for (const bytes of [0, 8, 500, 560, 600, 640, 680, 720, 800]) {
      lines.length = 0;
      proxy.cutAfter(bytes);
      proxy.cut();
      await until('it was cut again', () => lines.filter((line) => /lost|trying again/.test(line.msg)).length > 1);
      proxy.cutAfter(undefined);
      proxy.cut();
      await untilHeard(got);
    }
  });

  it('declares its queue again and goes on when somebody deletes it', async () => {
    await ready();
    await declare();
    const got = await consume();
    await rabbit.server().ctl('delete_queue', queue);
    await untilHeard(got);
    assert.equal(broker.state, 'ready');
  });

  it('declares again what the broker took, not what it refused', async () => {
    await ready();
    await declare();
    const refused = { name: queue, durable: true, arguments: { 'x-max-length': 1 } };
    await assert.rejects(broker.declare({ queues: [refused] }), { code: 'INTERNAL' });
    await rabbit.server().ctl('delete_queue', queue);
    await rabbit.server().ctl('close_all_connections', 'a test');
    await until('it has noticed', () => changes.length > 1);
    await ready();
    await declare();
    assert.ok(!lines.some((line) => line.msg.includes('refused')), JSON.stringify(lines));
  });

  it('keeps publishing and consuming when a declaration, a probe or a publish is refused', async () => {
    await ready();
    await declare();
    const got: Delivery[] = [];
    await broker.consume(queue, { prefetch: 10 }, (delivery) => got.push(delivery));
    await send('held');
    await until('it arrives', () => got.length === 1);
    const other = { name: queue, durable: true, arguments: { 'x-max-length': 1 } };
    await assert.rejects(broker.declare({ queues: [other] }), { code: 'INTERNAL', message: /PRECONDITION_FAILED/ });
    assert.equal(await broker.probe(`${queue}.missing`), undefined);
    assert.equal(got[0]?.alive, true, 'the consumer has a channel of its own');
    const lost = { exchange: `${queue}.missing`, routingKey: '', body: Buffer.from('x'), properties: {} };
    assert.equal(await broker.publish(lost), 'lost');
    await until('publishing goes on', async () => (await send('after')) === 'accepted');
    await until('it arrives', () => got.length === 2);
    assert.ok(got.every((delivery) => delivery.alive && !delivery.redelivered));
    for (const delivery of got) delivery.ack();
    assert.deepEqual(
      changes.map((change) => change.state),
      ['ready'],
    );
  });

  it('resumes a consumer whose channel the broker closed because a delivery was not acknowledged in time', async () => {
    const ctl = (expression: string): Promise<string> => rabbit.server().ctl('eval', expression);
    await ctl('application:set_env(rabbit, consumer_timeout, 100).');
    try {
      await ready();
      await declare();
      const got: Delivery[] = [];
      await broker.consume(queue, { prefetch: 10 }, (delivery) => got.push(delivery));
      await send('held');
      await until('it arrives', () => got.length === 1);
      // Channels look at the time once a minute; here they are told to.
      await until('the channel is closed', async () => {
        await ctl('[P ! tick || P <- rabbit_channel:list()].');
        return got[0]?.alive === false;
      });
      got[0]?.ack(); // nobody hears it
      await until('it is delivered again', () => got.length === 2);
      assert.equal(got[1]?.redelivered, true);
      got[1].ack();
      assert.deepEqual(
        changes.map((change) => change.state),
        ['ready'],
      );
    } finally {
      await ctl('application:set_env(rabbit, consumer_timeout, 1800000).');
    }
  });

  it('says lost when the broker dies between a message and its confirm', async () => {
    await ready();
    await declare();
    proxy.pause('down');
    const outcomes = [send('1', true), send('2')];
    await rabbit.server().kill9();
    proxy.resume();
    assert.deepEqual(await Promise.all(outcomes), ['lost', 'lost']);
    await until('it is down', () => broker.state === 'down');
    await rabbit.server().start();
    await ready();
    assert.deepEqual(changes.at(-1), { state: 'ready', restarted: true });
  });

  it('says blocked while the broker has no memory left, and refuses more than it can keep', async () => {
    await ready();
    await declare();
    const got = await consume();
    await send('before');
    await rabbit.server().ctl('set_vm_memory_high_watermark', 'absolute', '1MB');
    try {
      const outcomes = [send('while blocked')];
      await until('it is blocked', () => broker.state === 'blocked');
      const body = Buffer.alloc(1024 * 1024);
      let refused = 0;
      for (let i = 0; i < 70; i++) {
        const outcome = broker.publish({ exchange: '', routingKey: queue, body, properties: {} });
        outcomes.push(outcome);
        void outcome.then((value) => (refused += value === 'refused' ? 1 : 0));
      }
      await until('the bound is reached', () => refused >= 6);
      await rabbit.server().ctl('set_vm_memory_high_watermark', '0.8');
      await until('it is ready', () => broker.state === 'ready');
      assert.equal((await Promise.all(outcomes)).filter((outcome) => outcome === 'accepted').length, 71 - refused);
      await until('all arrive', () => got.length === 72 - refused);
      assert.equal(got[1], 'while blocked');
    } finally {
      await rabbit.server().ctl('set_vm_memory_high_watermark', '0.8');
    }
  });

  it('keeps trying while it cannot reach the broker at start, says so once per reason, and remembers declarations', async () => {
    await broker.close();
    proxy.refuse(true);
    open();
    assert.equal(await broker.ready(AbortSignal.timeout(500)), false);
    assert.equal(broker.state, 'connecting');
    await assert.rejects(declare(), { code: 'BROKER_DOWN', data: { retryAfterS: 1 } });
    const complaints = lines.filter((line) => line.msg.includes('trying again'));
    assert.deepEqual(complaints.length, 1, JSON.stringify(complaints));
    proxy.refuse(false);
    await ready();
    assert.deepEqual(await broker.probe(queue), { messages: 0, consumers: 0 });
    await untilHeard(await consume());
  });

  it('keeps trying with wrong credentials, saying why and never the password', async () => {
    await broker.close();
    const url = new URL(rabbit.server().url());
    url.password = 'wrong-password';
    open({ urls: [url.href] });
    await until('it says why', () => lines.some((line) => line.reason?.includes('ACCESS_REFUSED') === true));
    assert.equal(broker.state, 'connecting');
    assert.ok(!JSON.stringify(lines).includes('wrong-password'));
  });

  it('says what may be wrong when the vhost is not there', async () => {
    await broker.close();
    open({ urls: [rabbit.server().url('missing')] });
    await until('it says why', () => lines.some((line) => line.reason?.includes('does the vhost exist') === true));
  });

  it('tries the other nodes of a cluster when one does not answer', async () => {
    await broker.close();
    const dead = [`amqp://127.0.0.1:${await freePort()}`, `amqp://127.0.0.1:${await freePort()}`];
    open({ urls: [...dead, proxy.through(rabbit.server().url())] });
    await ready();
    await declare();
    assert.equal(await send('hello'), 'accepted');
  });

  it('closes within its bounds while the broker does not answer', async () => {
    await ready();
    await declare();
    await consume();
    proxy.pause();
    await broker.close();
    assert.equal(broker.state, 'closed');
    assert.equal(await send('late'), 'down');
  });
});
