import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openMemoryBroker } from '../../core/broker/memory.ts';
import { createLog } from '../../core/log.ts';
import { describeBroker } from './broker-contract.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/broker/memory', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'funcatron-broker-'));
  });
  after(() => rm(folder, { recursive: true }));

  describeBroker('keeps the contract', async () => {
    const file = join(folder, 'broker.db');
    let broker = await openMemoryBroker({ file, log });
    return {
      broker,
      another: async () => broker.connect(),
      cleanup: () => broker.close(),
      async restart() {
        await broker.close();
        broker = await openMemoryBroker({ file, log });
        return broker;
      },
    };
  });
});
