import assert from 'node:assert/strict';
import { Socket } from 'node:net';
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

  it('sends the commands of one turn in one write', async () => {
    const store = await openStore(`${redis.url()}?prefix=${prefix}`, { dataDir: '/nonexistent', log, role: 'test' });
    const sockets = Socket.prototype;
    // oxlint-disable-next-line typescript/unbound-method -- put back as it was
    const { _write, _writev } = sockets;
    let writes = 0;
    sockets._write = function (...args) {
      writes++;
      _write.apply(this, args);
    };
    sockets._writev = function (...args) {
      writes++;
      _writev?.apply(this, args);
    };
    try {
      await Promise.all(Array.from({ length: 200 }, () => store.get('crowd')));
    } finally {
      Object.assign(sockets, { _write, _writev });
      await store.close();
    }
    assert.ok(writes > 0 && writes < 10, `${writes} writes`);
  });
});
