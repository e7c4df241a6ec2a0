import assert from 'node:assert/strict';
import { MemoryWatch } from '../../../runner/isolate/memory-watch.ts';
import { readMemory } from '../../../runner/isolate/launch.ts';

describe('runner/isolate/memory-watch', () => {
  it('tells once of a process that is too large, and never of one that is not', async function () {
    if (readMemory(process.pid) === undefined) this.skip();
    const watch = new MemoryWatch();
    let calls = 0;
    const residentBytes = await new Promise<number>((resolve) => {
      watch.add(process.ppid, Number.MAX_SAFE_INTEGER, () => assert.fail('it is not too large'));
      watch.add(process.pid, 1024 * 1024, (bytes) => {
        calls++;
        resolve(bytes);
      });
    });
    watch.remove(process.ppid);
    assert.ok(residentBytes > 1024 * 1024);
    assert.equal(calls, 1);
  });
});
