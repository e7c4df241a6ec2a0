import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { findProgramWalls, type ProgramWalls } from '../../runner/runtimes/program-walls.ts';
import { processesWith } from '../helpers/programs.ts';
import { until } from '../helpers/until.ts';
import type { ProgramsRunnerOptions } from './programs-runner.ts';

const NOBODY = 65_534;
const AS_NOBODY = ['/usr/bin/setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--'];
/** As in a container that has no right to make namespaces. */
const WITHOUT_NAMESPACES = ['/usr/bin/setpriv', '--bounding-set=-sys_admin', '--'];
const RUNTIMES = [
  ['http', './serve.sh WORDS'],
  ['default', './probe.sh WORDS'],
  ['python', 'main:handler'],
  ['node', 'index.js'],
] as const;
/** Not `default`: its program ends with its call, and takes everything along then. */
const DAEMONS = [
  ['http', `sh -c 'read -r line; ./daemon.sh WORDS; printf "HTTP/1.1 204 No Content\\r\\n\\r\\n"; sleep 600'`],
  ['python', 'daemon:handler'],
  ['node', 'daemon.js'],
] as const;

interface Answer {
  readonly found: string;
  readonly homes: readonly string[];
}

describe('what programs cannot reach', function () {
  this.timeout(60_000);
  let folder = '';
  let marker = '';
  let walls: ProgramWalls;
  let runner: ChildProcess | undefined;

  before(async () => {
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    walls = await findProgramWalls();
  });
  beforeEach(() => {
    marker = `marker-${randomBytes(8).toString('hex')}`;
    folder = mkdtempSync(join(tmpdir(), 'funcatron-walls-test-'));
    const data = join(folder, 'data');
    mkdirSync(join(data, 'bundles'), { recursive: true });
    for (const name of ['victim', 'attacker']) {
      const bundle = join(data, 'bundles', name);
      cpSync('test/fixtures/attacker', bundle, { recursive: true });
      for (const file of readdirSync(bundle)) chmodSync(join(bundle, file), file.endsWith('.sh') ? 0o555 : 0o444);
    }
    writeFileSync(join(data, 'token'), 'secret', { mode: 0o600 });
    writeFileSync(join(data, 'bundles/cache'), 'code');
    chmodSync(data, 0o700);
  });
  afterEach(async () => {
    if (runner?.exitCode === null && runner.signalCode === null) {
      runner.stdin?.end();
      await once(runner, 'exit');
    }
    rmSync(folder, { recursive: true });
  });

  /** @param as what stands before the runner's command */
  async function start(
    options: Pick<ProgramsRunnerOptions, 'runtime' | 'entry' | 'words'>,
    as: readonly string[] = [],
  ): Promise<Answer> {
    const data = join(folder, 'data');
    const [victim, attacker] = [join(data, 'bundles/victim'), join(data, 'bundles/attacker')];
    const all: ProgramsRunnerOptions = { ...options, victim, attacker, hidden: [data] };
    const path = join(import.meta.dirname, 'programs-runner.ts');
    const command = [process.execPath, path, JSON.stringify(all)];
    runner = spawn('/usr/bin/env', [...as, ...command], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { SECRET: `of the runner, ${marker}` },
    });
    if (runner.stdout === null) throw new Error('no stdout');
    for await (const line of createInterface(runner.stdout)) return JSON.parse(line) as Answer;
    throw new Error('the runner ended');
  }

  const words = (): string[] => [join(folder, 'data/token'), join(folder, 'data/bundles/cache'), 'OTHER', marker];
  const shut = ['token', 'cache', 'other', 'environ', 'change', 'remove', 'chmod', 'add', 'root', 'groups'];

  it('is what a process finds that has no walls around it', function () {
    if (process.getuid?.() !== 0) this.skip();
    const bundle = join(folder, 'data/bundles/attacker');
    const other = join(folder, 'data/bundles/victim/data.txt');
    const env = { PATH: '/usr/bin:/bin', TMPDIR: folder, HOME: folder, SECRET: marker };
    const found = execFileSync(join(bundle, 'probe.sh'), [...words().slice(0, 2), other, marker], { cwd: bundle, env });
    const opened = ['token', 'cache', 'other', 'environ', 'change', 'remove'];
    for (const name of opened) assert.match(found.toString(), new RegExp(`^${name} open$`, 'm'));
  });

  for (const [runtime, entry] of RUNTIMES) {
    for (const [who, as] of [
      ['is root', []],
      ['is root and may make no namespaces', WITHOUT_NAMESPACES],
    ] as const) {
      it(`runtime ${runtime}, the runner ${who}: its data, its environment, other bundles, and to change their own`, async function () {
        if (walls.users === undefined) this.skip();
        // Where folders can be hidden it matters no more who may read them.
        if (as !== WITHOUT_NAMESPACES && walls.hides === true) chmodSync(join(folder, 'data'), 0o755);
        const { found, homes } = await start({ runtime, entry, words: words() }, as);
        const temporary = runtime === 'node' ? 'shut' : 'open';
        assert.deepEqual(found.trim().split('\n'), [
          ...shut.map((name) => `${name} shut`),
          'own open',
          `temporary ${temporary}`,
        ]);
        const [own] = homes;
        assert.ok(own !== undefined && existsSync(own));
        runner?.stdin?.end();
        await until('their homes are gone', () => !existsSync(own));
      });
    }

    it(`runtime ${runtime}, the runner is not root but may make namespaces: all of these`, async function () {
      if (process.getuid?.() !== 0 || !hasUserNamespaces()) this.skip();
      for (const path of [
        folder,
        ...readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))),
      ]) {
        chownSync(path, NOBODY, NOBODY);
      }
      const { found } = await start({ runtime, entry, words: words() }, AS_NOBODY);
      const seen = found.trim().split('\n');
      for (const name of shut) {
        assert.ok(seen.includes(`${name} shut`), seen.join(', '));
      }
      assert.ok(seen.includes('own open'));
    });
  }

  for (const [runtime, entry] of DAEMONS) {
    it(`runtime ${runtime}: to be there when their runner was killed, be it in a session of their own`, async function () {
      if (!walls.catchesDaemons) this.skip();
      const { homes } = await start({ runtime, entry, words: [marker] });
      await until('the daemon runs', () => processesWith(marker).length > 0);
      runner?.kill('SIGKILL');
      await until('nothing is left', () => processesWith(marker).length === 0);
      await start({ runtime, entry, words: [marker] });
      await until('its homes are removed by the next one', () => homes.every((path) => !existsSync(path)));
    });
  }
});

function hasUserNamespaces(): boolean {
  try {
    execFileSync('/usr/bin/unshare', ['--user', '--map-root-user', '/bin/true'], {
      uid: NOBODY,
      gid: NOBODY,
      stdio: 'ignore',
    });
    return true;
  } catch {
    return false;
  }
}
