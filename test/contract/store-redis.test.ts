import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import { createLog } from '../../core/log.ts';
import { openStore } from '../../core/store/open.ts';
import { useRedis } from '../helpers/servers/redis.ts';
import { describeStore } from './store-contract.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/store/redis', () => {
  const redis = useRedis();
  const prefix = `funcatron-test-${process.pid}-${Date.now()}:`;

  describeStore('the store contract', () =>
    openStore(`${redis.url()}?prefix=${prefix}`, { dataDir: '/nonexistent', log, role: 'test' }),
  );

  it('sends the commands of one turn together: the server reads a few times, not once for each', async () => {
    const store = await openStore(`${redis.url()}?prefix=${prefix}`, { dataDir: '/nonexistent', log, role: 'test' });
    const observer = new Redis(redis.url());
    const reads = async (): Promise<number> =>
      Number(/^total_reads_processed:(\d+)/m.exec(await observer.info('stats'))?.[1]);
    try {
      await store.set('crowd', 'a');
      const before = await reads();
      await Promise.all(Array.from({ length: 200 }, () => store.get('crowd')));
      const after = await reads();
      assert.ok(after - before < 50, `${after - before} reads`);
      await store.delete('crowd');
    } finally {
      await observer.quit();
      await store.close();
    }
  });
});
