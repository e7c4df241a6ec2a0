import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { freePort } from '../helpers/servers/port.ts';
import { outcomeOf } from '../helpers/traffic.ts';
import { until } from '../helpers/until.ts';

const root = join(import.meta.dirname, '../..');

/** The machine's own Node and npm, as a newcomer has them: without what this checkout brings. */
function ownPath(): string {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .filter((folder) => !folder.includes('node_modules'))
    .join(delimiter);
}

describe('a fresh checkout', function () {
  this.timeout(300_000);
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-fresh-'));

  before(function () {
    // It fetches packages; whoever forbids installing, or is offline, has said so.
    if (process.env['FUNCATRON_TEST_INSTALL'] === '0' && process.env['CI'] !== 'true') this.skip();
    const { stdout } = spawnSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' });
    for (const file of stdout.split('\0').filter(Boolean)) cpSync(join(root, file), join(folder, file));
  });

  after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

  it('says what to run while nothing is installed', () => {
    const { status, stderr } = spawnSync(process.execPath, ['bin/funcatron', 'up'], { cwd: folder, encoding: 'utf8' });
    assert.equal(status, 1);
    assert.equal(
      stderr,
      `error: cannot load funcatron: Cannot find package 'commander'\n  → run \`npm ci\` in ${folder}\n`,
    );
  });

  it('answers calls after npm start alone, and ends cleanly on Ctrl-C', () => answers('npm', ['start', '--']));

  it('builds what workers need when it is started without npm', async () => {
    rmSync(join(folder, 'dist'), { recursive: true });
    await answers('bin/funcatron', ['up', '--data', join(folder, 'other')]);
  });

  async function answers(command: string, first: readonly string[]): Promise<void> {
    const port = await freePort();
    const args = [...first, '--http-port', String(port), '--tron-port', '0'];
    const env = { PATH: ownPath(), HOME: process.env['HOME'] };
    const up = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let output = '';
    for (const stream of [up.stdout, up.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (output = (output + text).slice(-10_000)));
    }
    const ended = new Promise<void>((resolve) => up.once('close', () => resolve()));
    try {
      await until(
        'the sample answers',
        async () => {
          if (up.exitCode !== null) throw new Error(`${command} ended with ${up.exitCode}:\n${output}`);
          return (await outcomeOf(`http://127.0.0.1:${port}/hello/world`)) === '200';
        },
        240_000,
      );
      await until('it greets', () => output.includes('curl http://127.0.0.1:'), 30_000);
    } finally {
      process.kill(-(up.pid ?? 0), 'SIGINT');
    }
    // npm passes the signal on and then ends by it itself; what it started says how it went.
    await ended;
    assert.match(output, /\bstopped\b/);
  }

  it('runs the unit tests of a part with npm test, on the Node it brought', () => {
    const env = { PATH: ownPath(), HOME: process.env['HOME'], FUNCATRON_TEST_INSTALL: '0' };
    const { status, stdout } = spawnSync('npm', ['test', '--', 'none'], { cwd: folder, env, encoding: 'utf8' });
    // No suite has that name: the runner itself started, said so, and counts it as a failure.
    assert.equal(status, 1);
    assert.match(stdout, /^0 passed, 0 failed, 0 skipped$/m);
  });
});
