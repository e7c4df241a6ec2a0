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
});
