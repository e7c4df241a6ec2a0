import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { threadArguments } from '../../runner/isolate/thread.ts';

const file = join(import.meta.dirname, '../fixtures/wall/thread.cjs');
const FLAGS = [
  '--permission',
  '--allow-worker',
  '--no-addons',
  '--disallow-code-generation-from-strings',
  '--no-warnings',
];

/** What a thread may do in a process like the one threads share, with these arguments of its own. */
async function outcomes(execArgv: readonly string[] | undefined): Promise<Record<string, string>> {
  const options = JSON.stringify({ execArgv, env: {} });
  const script = `new (require('node:worker_threads').Worker)(${JSON.stringify(file)}, ${options}).on('message', (message) => console.log(JSON.stringify(message)))`;
  const { stdout } = await promisify(execFile)(process.execPath, [...FLAGS, `--allow-fs-read=${file}`, '-e', script]);
  return JSON.parse(stdout) as Record<string, string>;
}

describe('the wall around a thread', () => {
  it('holds against an attacker with all of Node in the thread', async () => {
    const results = await outcomes(threadArguments([file]));
    assert.equal(Object.keys(results).length, 8);
    assert.deepEqual(
      Object.entries(results).filter(([, outcome]) => !outcome.startsWith('blocked')),
      [],
    );
  });

  it('would have a door if the thread had the arguments of its process', async () => {
    assert.equal((await outcomes(undefined))['freeThread'], 'open');
  });
});
