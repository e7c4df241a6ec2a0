import assert from 'node:assert/strict';
import { openMemoryBroker } from '../../../core/broker/memory.ts';
import { newId, parseId } from '../../../core/id.ts';
import { createLog } from '../../../core/log.ts';
import { cancelExchange } from '../../../core/wire/topology.ts';
import { CancelledIds, openCancelListener } from '../../../runner/cancels.ts';
import { until } from '../../helpers/until.ts';

function id(): Buffer {
  return parseId(newId()) ?? assert.fail();
}

describe('runner/cancels', () => {
  it('remembers ids, and takes no other with the same last bytes for one of them', () => {
    const cancelled = new CancelledIds();
    assert.equal(cancelled.isEmpty, true);
    const known = id();
    const twin = Buffer.from(known);
    twin[0] = (twin[0] ?? 0) ^ 0xff;
    cancelled.add(known);
    assert.equal(cancelled.isEmpty, false);
    assert.equal(cancelled.has(known), true);
    assert.equal(cancelled.has(twin), false);
  });

  it('keeps at least the last 50 000 and no more than 100 000', () => {
    const cancelled = new CancelledIds();
    const ids = Array.from({ length: 100_001 }, id);
    for (const each of ids) cancelled.add(each);
    assert.equal(cancelled.has(ids[0] ?? assert.fail()), false);
    assert.ok(ids.slice(-50_000).every((each) => cancelled.has(each)));
  });

  it('reads no more ids of one message than a caller can have calls', async () => {
    const log = createLog({ level: 'silent', role: 'test' });
    const broker = await openMemoryBroker({ file: undefined, log });
    const heard: string[] = [];
    const listener = openCancelListener(broker, 'r1', log, (each) => heard.push(each.toString('hex')));
    const cancel = (body: Buffer) =>
      broker.publish({ exchange: cancelExchange.name, routingKey: '', body, properties: {} });
    const last = id();
    await until('it listens', async () => (await cancel(last)) === 'accepted' && heard.includes(last.toString('hex')));
    heard.length = 0;
    await cancel(Buffer.alloc(15 * 1024 * 1024));
    await cancel(Buffer.concat([last, Buffer.alloc(15)]));
    await until('the next one is heard', () => heard.includes(last.toString('hex')));
    assert.equal(heard.length, 10_001);
    await listener.close();
    await broker.close();
  });
});
