import assert from 'node:assert/strict';
import { createLog } from '../../../core/log.ts';
import { openMemoryBroker, type MemoryBroker } from '../../../core/broker/memory.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/broker/memory', () => {
  let broker: MemoryBroker;
  beforeEach(async () => {
    broker = await openMemoryBroker({ file: undefined, log });
  });
  afterEach(() => broker.close());

  it('carries a message from a publisher to a consumer without copying its body', async () => {
    await broker.declare({ queues: [{ name: 'q', durable: true, arguments: {} }] });
    const body = Buffer.from('hello');
    const arrived = Promise.withResolvers<Buffer>();
    await broker.consume('q', { prefetch: 1 }, (delivery) => {
      delivery.ack();
      arrived.resolve(delivery.body);
    });
    assert.equal(await broker.publish({ exchange: '', routingKey: 'q', body, properties: {} }), 'accepted');
    assert.equal(await arrived.promise, body);
  });
});
