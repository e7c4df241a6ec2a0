import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCodeCache } from '../../../runner/code-cache.ts';
import { until } from '../../helpers/until.ts';
import { silent } from './test-runner.ts';

describe('runner/code-cache', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-code-cache-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const files = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.cache'));

  it('has nothing before a worker has made one', async () => {
    assert.equal(await createCodeCache(folder, silent).read(), undefined);
  });

  it('gives the first one it was given, and so does the next process', async () => {
    const cache = createCodeCache(folder, silent);
    cache.keep(Buffer.from('first'));
    cache.keep(Buffer.from('second'));
    assert.equal(String(await cache.read()), 'first');
    await until('it is on the disk', () => files().length === 1);
    assert.equal(String(await createCodeCache(folder, silent).read()), 'first');
  });

  it('holds nothing in memory once the disk has it', async () => {
    const cache = createCodeCache(folder, silent);
    cache.keep(Buffer.from('first'));
    await until('it is on the disk', () => files().length === 1);
    const file = join(folder, files()[0] ?? '');
    assert.equal(readFileSync(file, 'latin1'), 'first');
    writeFileSync(file, 'other');
    await until('the disk is read', async () => String(await cache.read()) === 'other');
  });

  it('holds it in memory when the disk does not take it', async () => {
    const cache = createCodeCache(join(folder, 'gone'), silent);
    cache.keep(Buffer.from('first'));
    assert.equal(String(await cache.read()), 'first');
  });
});
