import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { RpcTarget, type RpcFailure } from '../../../core/broker/batch.ts';
import type { Broker } from '../../../core/broker/broker.ts';
import { openMemoryBroker } from '../../../core/broker/memory.ts';
import { openRpc, type Rpc, type RpcLimits } from '../../../core/broker/rpc.ts';
import { ID_BYTES, newId, parseId, writeId } from '../../../core/id.ts';
import { createLog } from '../../../core/log.ts';
import { CallFlag, encodeReplies, type Envelope } from '../../../core/wire/envelope.ts';
import { callQueue, cancelExchange, listenerQueue, listenerTopology, replyQueue } from '../../../core/wire/topology.ts';
import { openResponder, type Responder } from '../../helpers/responder.ts';
import { until } from '../../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });
const QUEUE = callQueue('orders', 'aaaaaaaaaaaa');
const WIDE: RpcLimits = { maxInFlight: 10_000, maxInFlightBytes: 64 * 1024 * 1024 };

type Outcome = { readonly body: string; readonly status: number } | RpcFailure;

interface Made {
  readonly body?: Buffer;
  readonly timeoutMs?: number;
  readonly flags?: number;
}

describe('core/broker/rpc', () => {
  let broker: Broker;
  let id: string;
  let rpc: Rpc;
  const open: { close(): Promise<void> }[] = [];

  async function openTestRpc(limits: RpcLimits = WIDE): Promise<void> {
    broker = await openMemoryBroker({ file: undefined, log });
    id = newId();
    rpc = openRpc({ broker, id, clock: Date, log, limits });
    open.push(broker, rpc);
    await until('the reply queue is open', () => rpc.isReady);
  }
  afterEach(async () => {
    for (const each of open.splice(0).toReversed()) await each.close();
  });

  /** From now on publishers hear from the broker what became of their messages when `confirm` is called, and then as ever. */
  function holdConfirms(): { readonly confirm: () => void } {
    const publish = broker.publish.bind(broker);
    const { promise, resolve } = Promise.withResolvers<void>();
    broker.publish = async (message) => {
      const outcome = await publish(message);
      if (message.properties.type === 'calls') await promise;
      return outcome;
    };
    return { confirm: resolve };
  }

  function start(target: RpcTarget, made: Made = {}) {
    const bytes = Buffer.alloc(ID_BYTES);
    writeId(bytes, 0);
    const outcomes: Outcome[] = [];
    const call = rpc.call(
      target,
      {
        id: bytes,
        deadline: Date.now() + (made.timeoutMs ?? 5_000),
        operation: 0,
        flags: made.flags ?? 0,
        meta: '',
        body: made.body,
      },
      {
        onReply: (envelope: Envelope, index: number) =>
          outcomes.push({ body: envelope.body(index).toString(), status: envelope.status(index) }),
        onFailure: (failure) => outcomes.push(failure),
      },
    );
    return { call, outcomes };
  }

  async function outcomeOf(started: { outcomes: readonly Outcome[] }): Promise<Outcome> {
    await until('the call ended', () => started.outcomes.length > 0);
    return started.outcomes[0] as Outcome;
  }

  /** Ids on `funcatron.cancel`, in the order they came. */
  async function listenForCancels(): Promise<string[]> {
    const ids: string[] = [];
    await broker.declare(listenerTopology(cancelExchange, 'test', [''], 100));
    await broker.consume(listenerQueue(cancelExchange.name, 'test'), {}, ({ body }) => {
      for (let at = 0; at < body.length; at += ID_BYTES) ids.push(body.toString('hex', at, at + ID_BYTES));
    });
    return ids;
  }

  describe('with a runner that answers', () => {
    let responder: Responder;

    async function openWithResponder(): Promise<void> {
      await openTestRpc();
      responder = await openResponder(broker, QUEUE, (call) => ({ body: call.body, status: 201 }));
    }

    it('gives each caller its own reply', async () => {
      await openWithResponder();
      const target = new RpcTarget(QUEUE.name, 25);
      const started = ['a', 'b', 'c'].map((text) => start(target, { body: Buffer.from(text) }));
      assert.deepEqual(await Promise.all(started.map(outcomeOf)), [
        { body: 'a', status: 201 },
        { body: 'b', status: 201 },
        { body: 'c', status: 201 },
      ]);
      assert.equal(rpc.inFlight, 0);
      assert.equal(rpc.counts.lateReplies, 0);
    });

    it('sends the calls of one turn in one message, and no more than batchMax', async () => {
      await openWithResponder();
      const started = Array.from({ length: 10 }, () => start(new RpcTarget(QUEUE.name, 1)));
      const target = new RpcTarget(QUEUE.name, 4);
      started.push(...Array.from({ length: 10 }, () => start(target)));
      await Promise.all(started.map(outcomeOf));
      assert.equal(responder.calls.length, 20);
      assert.equal(responder.batches, 10 + 3);
    });

    it('gathers calls as long as every turn brings more, a bounded number of turns', async () => {
      await openWithResponder();
      const target = new RpcTarget(QUEUE.name, 25);
      const few = [start(target)];
      for (let turn = 0; turn < 3; turn++) {
        few.push(start(target));
        await setImmediate();
      }
      await Promise.all(few.map(outcomeOf));
      assert.equal(responder.batches, 1);
      const many = [start(target)];
      for (let turn = 0; turn < 20; turn++) {
        many.push(start(target));
        await setImmediate();
      }
      await Promise.all(many.map(outcomeOf));
      assert.ok(responder.batches > 2);
    });

    /** Many calls in flight, which nobody answers; one of the target was, and its message is not confirmed. */
    async function startLoaded(target: RpcTarget): Promise<void> {
      const idle = callQueue('idle', 'aaaaaaaaaaaa');
      await broker.declare({ queues: [idle] });
      for (let call = 0; call < 23; call++) start(new RpcTarget(idle.name, 1));
      await outcomeOf(start(target));
      assert.equal(responder.calls.length, 1);
    }

    it('gathers calls until the broker has confirmed the message before', async () => {
      await openWithResponder();
      const { confirm } = holdConfirms();
      const target = new RpcTarget(QUEUE.name, 25);
      await startLoaded(target);
      const held = Array.from({ length: 3 }, () => start(target));
      await outcomeOf(start(new RpcTarget(QUEUE.name, 25)));
      assert.equal(responder.calls.length, 2, 'three were gathered before that one of another lane');
      confirm();
      await Promise.all(held.map(outcomeOf));
      assert.equal(responder.batches, 3);
    });

    it('does not wait for that when calls fill a message, or are a quarter of those in flight', async () => {
      await openWithResponder();
      holdConfirms();
      const small = new RpcTarget(QUEUE.name, 4);
      await startLoaded(small);
      await Promise.all(Array.from({ length: 4 }, () => outcomeOf(start(small))));
      assert.equal(responder.batches, 2, 'four fill a message');
      const large = new RpcTarget(QUEUE.name, 25);
      await outcomeOf(start(large));
      const held = start(large);
      for (let turn = 0; turn < 20; turn++) await setImmediate();
      assert.equal(responder.batches, 3, 'one waits');
      await Promise.all([held, ...Array.from({ length: 9 }, () => start(large))].map(outcomeOf));
      assert.equal(responder.batches, 4, 'ten are enough');
    });

    it('forgets how many were in flight', async () => {
      await openWithResponder();
      holdConfirms();
      await Promise.all(Array.from({ length: 24 }, () => outcomeOf(start(new RpcTarget(QUEUE.name, 25)))));
      for (let call = 0; call < 25; call++) await outcomeOf(start(new RpcTarget(QUEUE.name, 25)));
      const target = new RpcTarget(QUEUE.name, 25);
      await outcomeOf(start(target));
      await outcomeOf(start(target));
    });

    it('sends calls with very different deadlines in different messages', async () => {
      await openWithResponder();
      const target = new RpcTarget(QUEUE.name, 25);
      const started = [200, 220, 4_000, 300_000].map((timeoutMs) => start(target, { timeoutMs }));
      await Promise.all(started.map(outcomeOf));
      assert.equal(responder.batches, 3);
    });

    it('closes a batch at 1 MiB plus one call', async () => {
      await openWithResponder();
      const target = new RpcTarget(QUEUE.name, 25);
      const body = Buffer.alloc(600 * 1024);
      await Promise.all([1, 2, 3].map(() => outcomeOf(start(target, { body }))));
      assert.equal(responder.batches, 2);
    });

    it('brings replies to their callers in whatever order and company they come', async () => {
      await openTestRpc();
      responder = await openResponder(broker, QUEUE, () => undefined);
      const target = new RpcTarget(QUEUE.name, 8);
      await fc.assert(
        fc.asyncProperty(fc.infiniteStream(fc.nat()), fc.integer({ min: 1, max: 30 }), async (numbers, count) => {
          const before = responder.calls.length;
          const started = Array.from({ length: count }, (_, n) => start(target, { body: Buffer.from(String(n)) }));
          await until('all calls came', () => responder.calls.length === before + count);
          const waiting = responder.calls.slice(before);
          while (waiting.length > 0) {
            const size = 1 + ((numbers.next().value ?? 0) % waiting.length);
            const chosen = Array.from({ length: size }, () =>
              waiting.splice((numbers.next().value ?? 0) % waiting.length, 1),
            );
            const replies = chosen.flat().map(({ idBytes, body }) => ({
              id: idBytes,
              status: 200,
              flags: 0,
              waitUs: 0,
              funcUs: 0,
              meta: '',
              body,
            }));
            await broker.publish({
              exchange: '',
              routingKey: replyQueue(id).name,
              properties: {},
              body: encodeReplies(replies),
            });
          }
          const outcomes = await Promise.all(started.map(outcomeOf));
          assert.deepEqual(
            outcomes,
            started.map((_, n) => ({ body: String(n), status: 200 })),
          );
        }),
        { numRuns: 25 },
      );
    });
  });

  it('ends a call at its deadline with timeout, tells runners, and drops the late reply', async () => {
    await openTestRpc();
    const cancels = await listenForCancels();
    const responder = await openResponder(broker, QUEUE, () => undefined);
    const started = start(new RpcTarget(QUEUE.name, 25), { timeoutMs: 30 });
    assert.equal(await outcomeOf(started), 'timeout');
    await until('runners were told', () => cancels.length === 1);
    const [call] = responder.calls;
    assert.ok(call !== undefined);
    assert.equal(cancels[0], call.idBytes.toString('hex'));
    await responder.reply(call);
    await until('the late reply was counted', () => rpc.counts.lateReplies === 1);
    assert.deepEqual(started.outcomes, ['timeout']);
  });

  it('does not take a reply whose id only ends like the one it waits for', async () => {
    await openTestRpc();
    const responder = await openResponder(broker, QUEUE, () => undefined);
    const started = start(new RpcTarget(QUEUE.name, 25));
    await until('the call came', () => responder.calls.length === 1);
    const [call] = responder.calls;
    assert.ok(call !== undefined);
    const other = Buffer.from(call.idBytes);
    other[0] = 0xff;
    await responder.reply({ ...call, idBytes: other });
    await until('the other reply was dropped', () => rpc.counts.lateReplies === 1);
    await responder.reply(call);
    assert.deepEqual(await outcomeOf(started), { body: '{"ok":true}', status: 200 });
  });

  it('says returned when the queue does not exist', async () => {
    await openTestRpc();
    assert.equal(await outcomeOf(start(new RpcTarget('fn.nobody.here', 25))), 'returned');
    assert.equal(rpc.inFlight, 0);
  });

  it('says refused when the queue is full', async () => {
    await openTestRpc();
    const arguments_ = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await broker.declare({ queues: [{ name: 'fn.full.queue', durable: true, arguments: arguments_ }] });
    const target = new RpcTarget('fn.full.queue', 1);
    const first = start(target);
    const second = start(target);
    assert.equal(await outcomeOf(second), 'refused');
    assert.deepEqual(first.outcomes, []);
  });

  it('says refused beyond its bounds on calls and on bytes', async () => {
    await openTestRpc({ maxInFlight: 2, maxInFlightBytes: 10_000 });
    await openResponder(broker, QUEUE, () => undefined);
    const target = new RpcTarget(QUEUE.name, 25);
    const first = start(target, { body: Buffer.alloc(8_000) });
    assert.deepEqual(start(target, { body: Buffer.alloc(3_000) }).outcomes, ['refused']);
    start(target);
    assert.deepEqual(start(target).outcomes, ['refused']);
    rpc.cancel(first.call);
    assert.deepEqual(start(target, { body: Buffer.alloc(8_000) }).outcomes, []);
  });

  it('says down while replies could not be heard', async () => {
    broker = await openMemoryBroker({ file: undefined, log });
    rpc = openRpc({ broker, id: newId(), clock: Date, log, limits: WIDE });
    open.push(broker, rpc);
    assert.deepEqual(start(new RpcTarget(QUEUE.name, 25)).outcomes, ['down']);
  });

  it('never sends a call that was cancelled in the turn it was made, and tells runners of one that left', async () => {
    await openTestRpc();
    const cancels = await listenForCancels();
    const responder = await openResponder(broker, QUEUE, () => undefined);
    const target = new RpcTarget(QUEUE.name, 25);
    const early = start(target);
    rpc.cancel(early.call);
    const sent = start(target);
    await until('the other call came', () => responder.calls.length === 1);
    rpc.cancel(sent.call);
    rpc.cancel(sent.call);
    await until('runners were told', () => cancels.length > 0);
    assert.deepEqual(cancels, [sent.call.id.toString('hex')]);
    assert.equal(responder.calls.length, 1);
    assert.deepEqual([...early.outcomes, ...sent.outcomes], []);
    assert.equal(rpc.inFlight, 0);
  });

  it('ignores what is no envelope of replies', async () => {
    await openTestRpc();
    await openResponder(broker, QUEUE);
    const garbage = { exchange: '', routingKey: replyQueue(id).name, properties: {} };
    await broker.publish({ ...garbage, body: Buffer.from('hello') });
    await broker.publish({ ...garbage, body: Buffer.from([1, 2, 0, 9]) });
    assert.deepEqual(await outcomeOf(start(new RpcTarget(QUEUE.name, 25))), { body: '{"ok":true}', status: 200 });
  });

  it('ends what is in flight as unknown when it closes, and removes its queue', async () => {
    await openTestRpc();
    const responder = await openResponder(broker, QUEUE, () => undefined);
    const target = new RpcTarget(QUEUE.name, 25);
    const started = start(target, { flags: CallFlag.mayRerun });
    await until('the call came', () => responder.calls.length === 1);
    await Promise.all([rpc.close(), rpc.close()]);
    assert.deepEqual(started.outcomes, ['unknown']);
    assert.deepEqual(start(target).outcomes, ['down']);
    assert.equal(await broker.probe(replyQueue(id).name), undefined);
  });

  it('keeps the id it was given', async () => {
    await openTestRpc();
    const responder = await openResponder(broker, QUEUE);
    const started = start(new RpcTarget(QUEUE.name, 25));
    await outcomeOf(started);
    assert.deepEqual(parseId(responder.calls[0]?.id ?? ''), started.call.id);
  });
});
