import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { VERSION } from '../../../core/version.ts';

describe('core/version', () => {
  it('is the version in package.json', async () => {
    const manifest = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')) as object;
    assert.equal('version' in manifest && manifest.version, VERSION);
  });
});
