import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openIdentity } from '../../../runner/identity.ts';

describe('runner/identity', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-identity-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('is kept in the folder, and another one while the first is in use', async () => {
    const first = await openIdentity(folder);
    const second = await openIdentity(folder);
    assert.notEqual(second.id, first.id);
    assert.notEqual(second.folder, first.folder);
    await first.close();
    const again = await openIdentity(folder);
    assert.deepEqual([again.id, again.folder], [first.id, first.folder]);
    await Promise.all([again.close(), second.close()]);
  });

  it('is free again when its process was killed', async () => {
    const path = join(import.meta.dirname, '../../../runner/identity.ts');
    const script = `const { openIdentity } = await import(${JSON.stringify(path)});
      console.log((await openIdentity(${JSON.stringify(folder)})).id);
      setInterval(() => undefined, 1_000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [printed] = (await once(child.stdout, 'data')) as [Buffer];
    const other = await openIdentity(folder);
    assert.notEqual(other.id, printed.toString().trim());
    child.kill('SIGKILL');
    await once(child, 'exit');
    const again = await openIdentity(folder);
    assert.equal(again.id, printed.toString().trim());
    await Promise.all([other.close(), again.close()]);
  });
});
