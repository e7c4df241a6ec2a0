import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBroker } from '../../../core/broker/open.ts';
import { FuncatronError } from '../../../core/errors.ts';
import { createLog } from '../../../core/log.ts';
import { freePort } from '../../helpers/servers/port.ts';

describe('core/broker/open', () => {
  let options: { log: ReturnType<typeof createLog>; connectionName: string; dataDir: string };

  beforeEach(() => {
    const dataDir = mkdtempSync(join(tmpdir(), 'funcatron-open-'));
    options = { log: createLog({ level: 'silent', role: 'test' }), connectionName: 'test', dataDir };
  });
  afterEach(() => rmSync(options.dataDir, { recursive: true }));

  it('opens the embedded broker for memory:', async () => {
    const broker = await openBroker('memory:', options);
    assert.equal(broker.kind, 'memory');
    assert.equal(broker.state, 'ready');
    await broker.close();
  });

  it('opens RabbitMQ for one or more amqp URLs, whether or not it answers', async () => {
    const url = `amqp://user:p%40ss@127.0.0.1:${await freePort()}/vhost`;
    const broker = await openBroker(`${url}, ${url}`, options);
    assert.equal(broker.kind, 'amqp');
    assert.equal(broker.state, 'connecting');
    assert.equal(await broker.ready(AbortSignal.timeout(50)), false);
    await broker.close();
    assert.equal(broker.state, 'closed');
  });

  for (const url of [
    '',
    'redis://localhost',
    'amqp://',
    'amqp://a:secret@h,,amqp://h',
    'http://a:secret@h',
    'memory',
  ]) {
    it(`refuses "${url}" without repeating a password`, async () => {
      await assert.rejects(openBroker(url, options), (error) => {
        assert.ok(error instanceof FuncatronError);
        assert.equal(error.code, 'INVALID_CONFIG');
        assert.ok(!error.message.includes('secret'));
        assert.ok(error.data.hint);
        return true;
      });
    });
  }
});
