import assert from 'node:assert/strict';
import { openMemoryBroker } from '../../../core/broker/memory.ts';
import type { Broker } from '../../../core/broker/broker.ts';
import { createLog } from '../../../core/log.ts';
import { logExchange } from '../../../core/wire/topology.ts';
import { openLogs, type Logs } from '../../../tron/logs.ts';
import { until } from '../../helpers/until.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('tron/logs', () => {
  let broker: Broker;
  let logs: Logs;
  beforeEach(async () => {
    broker = await openMemoryBroker({ file: undefined, log });
    logs = openLogs({ broker, id: 't1', log });
    await until('it listens', async () => (await broker.probe(`${logExchange.name}.t1`))?.consumers === 1);
  });
  afterEach(async () => {
    await logs.close();
    await broker.close();
  });

  async function say(bundle: string, ...messages: readonly string[]): Promise<void> {
    const lines = messages.map((message, time) => ({ time, level: 'info', bundle, message }));
    const body = Buffer.from(JSON.stringify(lines));
    await broker.publish({ exchange: logExchange.name, routingKey: `${bundle}.info`, body, properties: {} });
  }
  const messages = (bundle: string): string[] => logs.read({ bundle }, 100_000).map(({ message }) => message);

  it('keeps the newest 10 000 lines of a bundle', async () => {
    await say('a', ...Array.from({ length: 10_500 }, (_, n) => String(n)));
    await until('they are there', () => messages('a').length > 0);
    const kept = messages('a');
    assert.deepEqual([kept.length, kept[0], kept.at(-1)], [10_000, '500', '10499']);
  });

  it('keeps no more than 64 MiB, and drops lines of the bundle that floods its log', async () => {
    const long = 'x'.repeat(1024 * 1024);
    await say('quiet', 'a', 'b');
    for (let n = 0; n < 10; n++) await say('loud', ...Array.from({ length: 8 }, () => long));
    await say('loud', 'last');
    await until('all came', () => messages('loud').includes('last'));
    assert.deepEqual(messages('quiet'), ['a', 'b']);
    assert.equal(messages('loud').filter((message) => message === long).length, 63);
  });

  it('takes what is no line for nothing', async () => {
    for (const text of ['', 'null', '{}', '[null]', '[1]', '[{"time":"x"}]']) {
      await broker.publish({
        exchange: logExchange.name,
        routingKey: 'a.info',
        body: Buffer.from(text),
        properties: {},
      });
    }
    await say('a', 'after');
    await until('the next one is there', () => messages('a').length > 0);
    assert.deepEqual(messages('a'), ['after']);
  });
});
