import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { createProcessIsolate } from '../../../runner/isolate/process.ts';
import { silentLog, specOf, WorkerHarness } from '../../contract/isolate-harness.ts';

describe('runner/isolate/process', () => {
  const { version } = process;
  const setVersion = (node: string): void => {
    Object.defineProperty(process.versions, 'node', { value: node, configurable: true, enumerable: true });
  };
  afterEach(() => setVersion(version.slice(1)));

  it('refuses to start WEAK_ISOLATION on a Node that leaves the network open', async () => {
    setVersion('24.21.0');
    const isolate = createProcessIsolate({ log: silentLog, allowWeakIsolation: false });
    const started = isolate.start(specOf(''), new WorkerHarness().events);
    await assert.rejects(started, { code: 'WEAK_ISOLATION', message: /24\.21\.0/ });
  });

  it('starts workers behind the runner in the line for the processor, in its own group too', async function () {
    if (!existsSync('/proc/self/autogroup')) this.skip(); // This kernel does not group processes by session.
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    const isolate = createProcessIsolate({ log: silentLog, allowWeakIsolation: false });
    const harness = new WorkerHarness();
    harness.worker = await isolate.start(specOf('exports.run = () => 1;'), harness.events);
    const { pid } = harness.worker;
    assert.equal(getPriority(pid), 10);
    assert.match(readFileSync(`/proc/${pid}/autogroup`, 'latin1'), / nice 10$/m);
    await harness.worker.close();
    await isolate.close?.();
  });

  it('says so when what runs inside is not built', async () => {
    const isolate = createProcessIsolate({ log: silentLog, allowWeakIsolation: false, insideDir: '/nowhere' });
    await assert.rejects(isolate.start(specOf(''), new WorkerHarness().events), {
      code: 'INTERNAL',
      message: /\/nowhere/,
    });
  });
});
