import assert from 'node:assert/strict';
import { readConfig } from '../../../core/config.ts';
import { createKinds } from '../../../runner/isolate/kinds.ts';
import { silentLog } from '../../contract/isolate-harness.ts';

describe('runner/isolate/kinds', () => {
  it('runs only the runtimes the operator has switched on, and says how to switch another on', async () => {
    const kinds = createKinds({ log: silentLog, allowWeakIsolation: false, runtimes: ['js', 'http'] });
    try {
      assert.equal(kinds.of({ runtime: 'http', isolation: 'process' }).name, 'http');
      assert.throws(
        () => kinds.of({ runtime: 'default', isolation: 'process' }),
        (error: { code?: string; data?: { hint?: string } }) => {
          assert.equal(error.code, 'INVALID_BUNDLE');
          assert.match(error.data?.hint ?? '', /--runtimes js,http,default/);
          return true;
        },
      );
    } finally {
      await kinds.close();
    }
  });

  it('is told of them by --runtimes, in which every word has to be known', () => {
    assert.equal(readConfig({}, {}).runtimes, 'js');
    assert.equal(readConfig({ runtimes: 'js, http' }, {}).runtimes, 'js, http');
    assert.throws(() => readConfig({ runtimes: 'js,perl' }, {}), /--runtimes: "perl" is not one of js, node/);
  });
});
