import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { Child } from '../../runner/isolate/child.ts';
import { findWalls, launch } from '../../runner/isolate/launch.ts';
import { findInside } from '../../runner/isolate/process.ts';
import { findAddon, hostProgram } from '../../runner/isolate/strict.ts';
import { findJail, probeWalls, refuseOpenWalls } from '../../runner/isolate/strict-walls.ts';

describe('the wall around a worker of strict', () => {
  before(() => execFileSync(process.execPath, ['tools/build-inside.mjs']));

  it('holds against an attacker with all of Node in the worker’s process', async () => {
    const walls = await findWalls();
    const jail = await findJail(walls);
    const results = await probeWalls(walls, findInside(), hostProgram(findAddon(), 64, jail()));
    assert.deepEqual(
      Object.entries(results).filter(([, outcome]) => !outcome.startsWith('blocked')),
      [],
    );
    assert.ok(Object.keys(results).length >= 25);
  });

  it('is found open by its probe where the namespaces and the other uid are missing', async () => {
    const walls = await findWalls();
    const results = await probeWalls(walls, findInside(), hostProgram(findAddon(), 64, []));
    assert.equal(results['killRunner'], 'open');
    await assert.rejects(refuseOpenWalls(Promise.resolve(results)), {
      code: 'WEAK_ISOLATION',
      message: /open: .*killRunner/,
    });
  });
});

describe('a process of strict', () => {
  it('is gone, and all of it, when it is killed while its walls go up', async () => {
    const walls = await findWalls();
    const jail = await findJail(walls);
    // Any moment may be the bad one: without the end of its channel one of 15 left a process.
    for (let moment = 0; moment < 60; moment++) {
      const program = hostProgram(findAddon(), 64, jail());
      const child = new Child(launch(walls, findInside(), 64, 0, program), 64, 10_000, walls);
      await new Promise((resolve) => setTimeout(resolve, moment / 4));
      child.end('killed', 'the test kills it');
      assert.equal((await child.exited).reason, 'killed');
    }
  }).timeout(60_000);
});

/** What became of a call in a worker of `strict`: see the program. */
interface Outcome {
  readonly reply?: string;
  readonly uid?: number;
  readonly capabilities?: string;
  readonly noNewPrivileges?: string;
  readonly code?: string;
  readonly message?: string;
}

const runner = [process.execPath, join(import.meta.dirname, '../fixtures/strict/runner.ts')];
const NOBODY = 65_534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

/** The command, started by root, as a part of this machine that is allowed less. */
async function runAs(prefix: readonly string[]): Promise<Outcome> {
  const [program = '', ...args] = [...prefix, ...runner];
  const { stdout } = await promisify(execFile)(program, args);
  return JSON.parse(stdout) as Outcome;
}

/** As nobody where user namespaces are switched off: in a user namespace that has all ids and may have no child. */
async function runWithoutUserNamespaces(): Promise<Outcome> {
  const command = [...AS_NOBODY, '--ambient-caps=-all', '--inh-caps=-all', ...runner].join(' ');
  const script = `read mapped; echo 0 > /proc/sys/user/max_user_namespaces && exec ${command}`;
  const child = spawn('unshare', ['--user', '--keep-caps', 'sh', '-c', `echo up; ${script}`]);
  const output = text(child.stdout);
  await once(child.stdout, 'data');
  for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, '0 0 65536');
  child.stdin.end('mapped\n');
  return JSON.parse((await output).replace('up', '')) as Outcome;
}

describe('strict, by what its runner may do', function () {
  this.timeout(60_000);

  before(async function () {
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    if (process.getuid?.() !== 0) this.skip();
    try {
      // From a folder that only root reads nobody can run anything.
      await promisify(execFile)('setpriv', [...AS_NOBODY.slice(1), process.execPath, '--check', runner[1] ?? '']);
    } catch {
      this.skip();
    }
  });

  const CONFINED = { reply: 'echo', capabilities: '0000000000000000', noNewPrivileges: '1' };
  const REFUSAL =
    /^isolation strict cannot keep its promises here; open: another uid and .*namespaces \((unshare|setpriv): /;

  it('runs its workers as somebody else where the runner is root', async () => {
    const { uid, ...rest } = await runAs(['env']);
    assert.deepEqual(rest, CONFINED);
    assert.ok(uid !== undefined && uid >= NOBODY, `uid ${uid}`);
  });

  it('runs its workers as the runner’s own user, in namespaces, where the runner is nobody', async () => {
    const outcome = await runAs(AS_NOBODY);
    if (outcome.code === undefined) assert.deepEqual(outcome, { ...CONFINED, uid: NOBODY });
    else assert.match(outcome.message ?? '', REFUSAL);
  });

  it('refuses to start, naming the walls, where the runner is nobody and there are no user namespaces', async () => {
    const { code, message } = await runWithoutUserNamespaces();
    assert.equal(code, 'WEAK_ISOLATION');
    assert.match(message ?? '', REFUSAL);
  });

  it('refuses to start, naming the walls, where the runner is root in name only', async () => {
    const noCapabilities = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'];
    const oneUid = ['unshare', '--user', '--map-root-user'];
    for (const prefix of [noCapabilities, oneUid]) {
      const { code, message } = await runAs(prefix);
      assert.equal(code, 'WEAK_ISOLATION');
      assert.match(message ?? '', REFUSAL);
    }
  });
});
