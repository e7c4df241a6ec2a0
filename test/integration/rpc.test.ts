import assert from 'node:assert/strict';
import { openAmqpBroker } from '../../core/broker/amqp.ts';
import { RpcTarget } from '../../core/broker/batch.ts';
import type { Broker, BrokerState } from '../../core/broker/broker.ts';
import { openRpc, type Rpc } from '../../core/broker/rpc.ts';
import { ID_BYTES, newId, writeId } from '../../core/id.ts';
import type { Closable } from '../../core/lifecycle.ts';
import { createLog } from '../../core/log.ts';
import { CallFlag, type Envelope } from '../../core/wire/envelope.ts';
import { callQueue, replyQueue } from '../../core/wire/topology.ts';
import { openFaultProxy, type FaultProxy } from '../helpers/fault-proxy.ts';
import { openResponder, type Responder } from '../helpers/responder.ts';
import { usePrivateRabbit } from '../helpers/servers/rabbitmq.ts';
import { until } from '../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });

interface Started {
  readonly flags: number;
  /** `attempt <n>` when it was answered. */
  outcome: string | undefined;
}

describe('core/broker/rpc on RabbitMQ', function () {
  this.timeout(60_000);
  const rabbit = usePrivateRabbit();
  const open: Closable[] = [];
  let proxy: FaultProxy;
  let id: string;
  let rpc: Rpc;
  let broker: Broker;
  let runner: Broker;
  let states: BrokerState[];
  let responder: Responder;
  let target: RpcTarget;
  /** What the runner does with calls: answer them, or hold them until it is told. */
  let holds: boolean;

  /** The rpc behind a proxy; the runner straight at the broker. */
  beforeEach(async () => {
    const url = rabbit.server().url();
    proxy = await openFaultProxy(rabbit.server().port);
    broker = openAmqpBroker({ urls: [proxy.through(url)], connectionName: 'rpc', log, heartbeatS: 1 });
    runner = openAmqpBroker({ urls: [url], connectionName: 'runner', log, heartbeatS: 1 });
    states = [];
    broker.onState(({ state }) => states.push(state));
    open.push(proxy, broker, runner);
    await runner.ready();
    const queue = callQueue('rpc', newId());
    holds = false;
    responder = await openResponder(runner, queue, (call) => (holds ? undefined : { body: String(call.attempt) }));
    target = new RpcTarget(queue.name, 4);
    id = newId();
    rpc = openRpc({ broker, id, clock: Date, log, limits: { maxInFlight: 10_000, maxInFlightBytes: 2 ** 28 } });
    open.push(rpc);
    await until('the reply queue is open', () => rpc.isReady);
  });
  afterEach(async () => {
    for (const each of open.splice(0).toReversed()) await each.close();
  });

  function start(options: { flags?: number; timeoutMs?: number } = {}): Started {
    const bytes = Buffer.alloc(ID_BYTES);
    writeId(bytes, 0);
    const started: Started = { flags: options.flags ?? 0, outcome: undefined };
    const end = (outcome: string): void => {
      assert.equal(started.outcome, undefined, 'a call ends once');
      started.outcome = outcome;
    };
    rpc.call(
      target,
      {
        id: bytes,
        deadline: Date.now() + (options.timeoutMs ?? 30_000),
        operation: 0,
        flags: started.flags,
        meta: '',
        body: undefined,
      },
      {
        onReply: (envelope: Envelope, index: number) => end(`attempt ${envelope.body(index).toString()}`),
        onFailure: end,
      },
    );
    return started;
  }

  async function outcomesOf(started: readonly Started[]): Promise<readonly (string | undefined)[]> {
    await until('all calls ended', () => started.every(({ outcome }) => outcome !== undefined), 40_000);
    return started.map(({ outcome }) => outcome);
  }

  it('answers calls in batches', async () => {
    const started = Array.from({ length: 10 }, () => start());
    assert.deepEqual(new Set(await outcomesOf(started)), new Set(['attempt 1']));
    assert.equal(responder.batches, 3);
  });

  it('gets a reply that came while its connection was gone', async () => {
    holds = true;
    const started = start();
    await until('the call came', () => responder.calls.length === 1);
    proxy.refuse(true);
    proxy.cut();
    await until('the connection is lost', () => states.includes('down'));
    const [call] = responder.calls;
    assert.ok(call !== undefined);
    await responder.reply(call, { body: '1' });
    proxy.refuse(false);
    assert.deepEqual(await outcomesOf([started]), ['attempt 1']);
    assert.equal(rpc.counts.reruns, 0, 'nothing was lost, so nothing ran twice');
  });

  it('gets a reply that came while its connection was half open', async () => {
    holds = true;
    const started = start();
    await until('the call came', () => responder.calls.length === 1);
    proxy.pause();
    const [call] = responder.calls;
    assert.ok(call !== undefined);
    await until('heartbeats stopped', () => states.includes('down'), 20_000);
    proxy.cut();
    proxy.resume();
    await until('it is back', () => rpc.isReady, 20_000);
    await responder.reply(call, { body: '1' });
    assert.deepEqual(await outcomesOf([started]), ['attempt 1']);
  });

  it('says down at once while the broker cannot be reached', async () => {
    proxy.refuse(true);
    proxy.cut();
    await until('the connection is lost', () => states.includes('down'));
    assert.equal(start().outcome, 'down');
    proxy.refuse(false);
    await until('it is back', () => rpc.isReady, 20_000);
    assert.deepEqual(await outcomesOf([start()]), ['attempt 1']);
  });

  it('sends calls again that the broker lost when they may run twice, and says unknown of the others', async () => {
    holds = true;
    const once = [start(), start()];
    const again = [start({ flags: CallFlag.mayRerun }), start({ flags: CallFlag.mayRerun })];
    await until('the calls came', () => responder.calls.length === 4);
    holds = false;
    await rabbit.server().stop();
    await until('the broker is gone', () => states.includes('down'));
    await rabbit.server().start();
    assert.deepEqual(await outcomesOf([...once, ...again]), ['unknown', 'unknown', 'attempt 2', 'attempt 2']);
    assert.equal(rpc.counts.reruns, 2);
    assert.equal(rpc.inFlight, 0);
  });

  it('gives every call of a steady stream exactly one end through a kill of the broker', async () => {
    const started: Started[] = [];
    const over = new AbortController();
    const stream = (async () => {
      while (!over.signal.aborted) {
        started.push(start({ flags: started.length % 2 === 0 ? CallFlag.mayRerun : 0, timeoutMs: 20_000 }));
        await new Promise((resolve) => setImmediate(resolve));
        await until('few enough are in flight', () => rpc.inFlight < 50, 30_000);
      }
    })();
    await until('calls are answered', () => started.filter(({ outcome }) => outcome === 'attempt 1').length > 200);
    await rabbit.server().kill9();
    await until('the broker is gone', () => states.includes('down'));
    await rabbit.server().start();
    const before = started.length;
    await until(
      'calls are answered again',
      () => started.slice(before).some(({ outcome }) => outcome === 'attempt 1'),
      30_000,
    );
    over.abort();
    await stream;
    await outcomesOf(started);
    for (const { flags, outcome } of started) {
      const expected = flags === 0 ? /^attempt 1$|^unknown$|^down$/ : /^attempt [12]$|^down$/;
      assert.match(String(outcome), expected);
    }
  });

  it('counts calls to a queue that is gone after a reconnect as lost', async () => {
    holds = true;
    const started = start();
    await until('the call came', () => responder.calls.length === 1);
    proxy.refuse(true);
    proxy.cut();
    await until('the connection is lost', () => states.includes('down'));
    await responder.close();
    await runner.deleteQueue(target.queue);
    proxy.refuse(false);
    assert.deepEqual(await outcomesOf([started]), ['unknown']);
  });

  it('leaves nothing behind when it closes', async () => {
    await rpc.close();
    assert.equal(await broker.probe(replyQueue(id).name), undefined);
  });
});
