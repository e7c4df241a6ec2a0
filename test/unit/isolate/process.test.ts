import assert from 'node:assert/strict';
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

  it('says so when what runs inside is not built', async () => {
    const isolate = createProcessIsolate({ log: silentLog, allowWeakIsolation: false, insideDir: '/nowhere' });
    await assert.rejects(isolate.start(specOf(''), new WorkerHarness().events), {
      code: 'INTERNAL',
      message: /\/nowhere/,
    });
  });
});
