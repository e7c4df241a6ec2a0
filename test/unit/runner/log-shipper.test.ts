import assert from 'node:assert/strict';
import { openMemoryBroker, type MemoryBroker } from '../../../core/broker/memory.ts';
import type { LogLine } from '../../../core/wire/control.ts';
import { listenerQueue, listenerTopology, logExchange } from '../../../core/wire/topology.ts';
import { LogShipper } from '../../../runner/log-shipper.ts';
import { until } from '../../helpers/until.ts';
import { silent } from './test-runner.ts';

describe('runner/log-shipper', () => {
  let broker: MemoryBroker;
  let shipper: LogShipper;
  let messages: { readonly key: string; readonly lines: readonly LogLine[] }[];

  beforeEach(async () => {
    broker = await openMemoryBroker({ file: undefined, log: silent });
    shipper = new LogShipper(broker, silent);
    messages = [];
    await broker.declare(listenerTopology(logExchange, 't1', ['#'], 100));
    await broker.consume(listenerQueue(logExchange.name, 't1'), {}, ({ routingKey, body }) => {
      messages.push({ key: routingKey, lines: JSON.parse(body.toString()) as LogLine[] });
    });
  });
  afterEach(async () => {
    await shipper.close();
    await broker.close();
  });

  function add(message: string, level: LogLine['level'] = 'info'): void {
    shipper.add({ time: 1, level, bundle: 'shop', revision: 'r', runner: 'r1', message });
  }

  it('sends the lines of one bundle and level together, under their routing key', async () => {
    add('one');
    add('broken', 'error');
    add('two');
    await until('they came', () => messages.length === 2);
    const byKey = new Map(messages.map(({ key, lines }) => [key, lines.map(({ message }) => message)]));
    assert.deepEqual(byKey.get('shop.info'), ['one', 'two']);
    assert.deepEqual(byKey.get('shop.error'), ['broken']);
  });

  it('drops what is more than a thousand lines between two messages, and says how many with the next', async () => {
    for (let line = 0; line < 1_010; line++) add(String(line));
    await until('the first came', () => messages.length === 1);
    add('after');
    await until('the second came', () => messages.length === 2);
    assert.equal(messages[0]?.lines.length, 1_000);
    assert.equal(messages[1]?.lines[0]?.dropped, 10);
  });

  it('sends what is left when it closes', async () => {
    add('last');
    await shipper.close();
    await until('it came', () => messages.length === 1);
  });

  it('cuts a line of many characters', async () => {
    add('x'.repeat(100_000));
    await until('it came', () => messages.length === 1);
    assert.equal(messages[0]?.lines[0]?.message.length, 16 * 1024 + 1);
  });
});
