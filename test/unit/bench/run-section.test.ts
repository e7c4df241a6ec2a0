import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { programOf } from '../../../bench/process-stat.ts';
import { runSection } from '../../../bench/run-section.ts';
import { until } from '../../helpers/until.ts';

const root = join(import.meta.dirname, '../../..');
const fixture = (name: string): string => join(root, 'test/fixtures/bench', name);

describe('bench/run-section', () => {
  it('settles with what the section wrote', async () => {
    const outcome = await runSection(fixture('says.ts'), ['a line'], 20_000);
    assert.deepEqual(outcome, { lines: ['a line'], figures: [] });
  });

  it('says with what the process ended that wrote nothing', async () => {
    const { failure } = await runSection(fixture('ends.ts'), [], 20_000);
    assert.equal(failure, 'its process ended with 7');
  });

  it('says why a section failed, and what it has not got to', async () => {
    const { failure } = await runSection(join(root, 'bench/one-section.ts'), ['no-such-section'], 20_000);
    assert.equal(failure, 'there is no section no-such-section');
  });

  it('ends a section that takes too long, with what it has started', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-test-'));
    try {
      const file = join(folder, 'pid');
      const { failure } = await runSection(fixture('hangs.ts'), [file], 4_000);
      assert.equal(failure, 'not done after 4 s');
      const pid = Number(readFileSync(file, 'utf8'));
      await until('the program is gone', () => programOf(pid) !== 'sleep');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
