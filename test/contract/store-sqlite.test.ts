import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../core/log.ts';
import { openStore } from '../../core/store/open.ts';
import { describeStore } from './store-contract.ts';

const log = createLog({ level: 'silent', role: 'test' });

describe('core/store/sqlite', () => {
  let dataDir: string;
  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'funcatron-store-'));
  });
  after(() => rm(dataDir, { recursive: true }));

  describeStore('the store contract', () => openStore('sqlite:', { dataDir, log, role: 'test' }));
});
