import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CliResult, type RunningCli, runCli, startCli } from '../helpers/cli.ts';
import { nodeFlags } from '../helpers/node-flags.ts';
import { freePort } from '../helpers/servers/port.ts';
import { until } from '../helpers/until.ts';

const FREE_PORTS = ['--http-port', '0', '--tron-port', '0'];

describe('cli (one process)', () => {
  let folder: string;
  let dataDir: string;
  let up: RunningCli;
  let httpUrl: string;

  before(async function () {
    this.timeout(60_000);
    folder = mkdtempSync(join(tmpdir(), 'funcatron-cli-'));
    dataDir = join(folder, 'data');
    up = startCli(['up', '--no-samples', '--data', dataDir, '--log-level', 'warn', ...FREE_PORTS]);
    httpUrl = await up.says(/HTTP calls\s+(http:\S+)/);
    await up.says(/Ctrl-C drains/);
  });

  after(async () => {
    up.child.kill('SIGKILL');
    await up.ended;
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  /** A verb against this cluster, found through the data folder as a user's shell does. */
  function cli(...args: readonly string[]): Promise<CliResult> {
    return runCli([...args, '--data', dataDir]);
  }

  async function good(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await cli(...args);
    assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }

  it('keeps the token and the address for this user only', () => {
    assert.equal(statSync(join(dataDir, 'tron.json')).mode & 0o777, 0o600);
    assert.equal(statSync(join(dataDir, 'token')).mode & 0o777, 0o600);
  });

  it('takes a first bundle from init to an answer, and everything after it', async function () {
    this.timeout(60_000);
    const bundle = join(folder, 'greeter');

    const init = await runCli(['init', bundle]);
    assert.equal(init.code, 0, init.stderr);
    assert.match(init.stderr, /next: {2}funcatron deploy/);

    const validated = await runCli(['validate', bundle]);
    assert.equal(validated.code, 0, validated.stderr);
    assert.match(validated.stdout, /GET \/greeter\/greet\/\{name\} → greet/);

    const packed = JSON.parse((await runCli(['pack', bundle, '--json'], { cwd: folder })).stdout) as {
      file: string;
      revision: string;
    };
    assert.match(await good('deploy', join(folder, packed.file), '--no-live'), /is stored/);
    assert.match(await good('deploy', bundle), new RegExp(`greeter @ ${packed.revision} is live`));
    const answer = await fetch(`${httpUrl}/greeter/greet/ada?times=2`);
    assert.deepEqual(await answer.json(), { text: 'Hello, ada! Hello, ada!' });

    const [listed] = JSON.parse(await good('ls', '--json')) as { bundle: string }[];
    assert.equal(listed?.bundle, 'greeter');
    assert.match(await good('ls'), /greeter +[0-9a-f]{12} +\/greeter +serving/);
    assert.match(await good('describe', 'greeter'), /runners +1 of 1/);

    assert.deepEqual(JSON.parse(await good('invoke', 'greeter', 'greet', '-p', 'name=bob')), { text: 'Hello, bob!' });

    writeFileSync(join(bundle, 'index.ts'), readFileSync(join(bundle, 'index.ts'), 'utf8').replace('Hello', 'Bye'));
    await good('deploy', bundle);
    assert.match(await (await fetch(`${httpUrl}/greeter/greet/ada`)).text(), /Bye/);
    const revisions = JSON.parse(await good('versions', 'greeter', '--json')) as { revision: string; weight: number }[];
    assert.equal(revisions.length, 2);
    assert.match(await good('rollback', 'greeter'), new RegExp(packed.revision));
    assert.match(await (await fetch(`${httpUrl}/greeter/greet/ada`)).text(), /Hello/);
    const [one, two] = revisions.map(({ revision }) => revision);
    assert.match(await good('promote', 'greeter', `${one}=75`, `${two}=25`), /75%.*25%/);
    assert.match(await good('scale', 'greeter', '--min', '1', '--max', '2'), /1 to 2 workers/);

    await until('the log line is there', async () =>
      (await good('logs', 'greeter')).includes('greeting {"name":"bob"}'),
    );
    const [line] = (await good('logs', 'greeter', '--json')).trim().split('\n');
    assert.equal((JSON.parse(line ?? '') as { operationId: string }).operationId, 'greet');

    const unasked = await cli('rm', 'greeter');
    assert.equal(unasked.code, 2);
    assert.match(unasked.stderr, /add --yes/);
    await good('rm', 'greeter', '--yes');
    assert.equal((await fetch(`${httpUrl}/greeter/greet/ada`)).status, 404);
  });

  it('loads an operation and says where the time goes: bench', async function () {
    this.timeout(60_000);
    const bundle = join(folder, 'loaded');
    await runCli(['init', bundle]);
    await good('deploy', bundle);
    const url = `${httpUrl}/loaded/greet/ada`;
    const bench = ['-c', '2', '-d', '0.5'];
    const shown = await runCli(['bench', url, ...bench]);
    assert.equal(shown.code, 0, shown.stdout + shown.stderr);
    assert.match(shown.stdout, /\n {2}200 +\d+\n[\s\S]*latency +p50/);
    for (const part of ['frontend', 'queue', 'isolate', 'cold', 'func', 'reply'])
      assert.match(shown.stdout, new RegExp(`\n${part} +[\\d.]+ ms +[\\d.]+ ms`));
    const { stdout } = await runCli(['bench', url, ...bench, '-r', '50', '--json']);
    const { answers, serverTimingMs } = JSON.parse(stdout) as {
      answers: number;
      serverTimingMs: Record<string, { p50: number }>;
    };
    assert.ok(answers > 15 && answers <= 26, `${answers} answers`);
    assert.equal(serverTimingMs['cold']?.p50, 0);
    const missing = await runCli(['bench', `${httpUrl}/nothing`, ...bench]);
    assert.equal(missing.code, 1, missing.stderr);
    assert.match(missing.stdout, /\n {2}404 /);
    await good('rm', 'loaded', '-y');
  });

  it('follows logs until it is interrupted', async function () {
    this.timeout(30_000);
    const bundle = join(folder, 'talker');
    await runCli(['init', bundle]);
    await good('deploy', bundle);
    const logs = startCli(['logs', 'talker', '--follow', '--data', dataDir]);
    // The first line may be older than the reader; the second comes while it reads.
    await fetch(`${httpUrl}/talker/greet/first`);
    await logs.says(/"name":"first"/);
    await fetch(`${httpUrl}/talker/greet/second`);
    await logs.says(/"name":"second"/);
    logs.child.kill('SIGINT');
    assert.equal(await logs.ended, 0);
    await good('rm', 'talker', '-y');
  });

  it('shows every problem of a bad bundle with its place and what to do, and ends with 4', async () => {
    const bundle = join(folder, 'bad');
    await runCli(['init', bundle]);
    const document = join(bundle, 'funcatron.yaml');
    writeFileSync(document, readFileSync(document, 'utf8').replace('operationId: greet ', 'operationId: great '));
    const { code, stderr, stdout } = await cli('deploy', bundle);
    assert.equal(code, 4);
    assert.equal(stdout, '');
    assert.match(stderr, /funcatron\.yaml:\d+:\d+ .*great/);
    assert.match(stderr, /\[INVALID_BUNDLE\]/);
  });

  it('says what to do about a wrong token (4) and an unknown bundle (4)', async () => {
    const wrong = await cli('ls', '--token', 'wrong');
    assert.equal(wrong.code, 4);
    assert.match(wrong.stderr, /UNAUTHENTICATED[\s\S]*→ pass --token/);
    const unknown = await cli('describe', 'nobody');
    assert.equal(unknown.code, 4);
    assert.match(unknown.stderr, /NOT_FOUND[\s\S]*→/);
    const silent = await cli('logs', 'nobody');
    assert.equal(silent.code, 4);
    assert.match(silent.stderr, /no bundle is called nobody/);
  });

  it('says what is wrong with a share of a revision, and ends with 2', async () => {
    const { code, stderr } = await cli('promote', 'anybody', 'zzz=50');
    assert.equal(code, 2);
    assert.match(stderr, /"zzz=50" is neither a revision.*\n.*→ `funcatron versions/);
  });

  it('says what is well and what is not: doctor', async () => {
    const { code, stdout } = await cli('doctor');
    assert.match(stdout, /✔ tron {5}http:\S+ answers and takes the token/);
    assert.match(stdout, /node {5}v\d+/);
    assert.equal(code, 0, stdout);
    const none = await runCli(['doctor', '--json', '--data', join(folder, 'none'), '--tron-url', 'http://127.0.0.1:9']);
    assert.equal(none.code, 1);
    const findings = JSON.parse(none.stdout) as { name: string; state: string; fix?: string }[];
    assert.match(findings.find(({ name }) => name === 'tron')?.fix ?? '', /funcatron up/);
  });
});

describe('cli', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-cli-'));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  it('up deploys the samples at first start only, prints a curl line that works, and drains on SIGINT', async function () {
    this.timeout(90_000);
    const dataDir = join(folder, 'samples');
    const first = startCli(['up', '--data', dataDir, '--log-level', 'warn', ...FREE_PORTS]);
    const curl = await first.says(/try\s+curl (\S+)/);
    const answer = await fetch(curl);
    assert.deepEqual([answer.status, await answer.json()], [200, { text: 'Hello, world!' }]);
    assert.match(first.stdout(), new RegExp(`token\\s+${dataDir}/token`));
    first.child.kill('SIGINT');
    assert.equal(await first.ended, 0, first.stderr());
    assert.match(first.stderr(), /draining[\s\S]*stopped/);

    const second = startCli(['up', '--data', dataDir, '--log-level', 'warn', ...FREE_PORTS]);
    const again = await second.says(/try\s+curl (\S+)/);
    assert.doesNotMatch(second.stderr(), /deployed/);
    await until('it answers from what it had', async () => (await fetch(again)).ok);
    second.child.kill('SIGTERM');
    assert.equal(await second.ended, 0, second.stderr());
  });

  it('up goes on without a bundle that is refused, and says why', async function () {
    this.timeout(60_000);
    const bundle = join(folder, 'refused');
    await runCli(['init', bundle]);
    writeFileSync(join(bundle, 'index.ts'), `import 'node:fs';\nexport const greet = await 1;`);
    const up = startCli(['up', bundle, '--data', join(folder, 'refused-data'), '--log-level', 'warn', ...FREE_PORTS]);
    await up.says(/no bundles yet/);
    assert.match(up.stderr(), /index\.ts:2:22 .*top level/);
    up.child.kill('SIGINT');
    assert.equal(await up.ended, 0);
  });

  it('up says which port is taken, and what to do (2)', async function () {
    this.timeout(30_000);
    const taken = createServer().listen(await freePort(), '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const { port } = taken.address() as { port: number };
    const args = ['up', '--data', join(folder, 'taken'), '--http-port', String(port), '--tron-port', '0'];
    const { code, stderr } = await runCli(args);
    await new Promise((resolve) => taken.close(resolve));
    assert.equal(code, 2);
    assert.match(stderr, new RegExp(`${port}`));
    assert.match(stderr, /→ .*--http-port/);
  });

  it('ends at once at a second signal that comes later', async function () {
    this.timeout(60_000);
    const bundle = join(folder, 'sleeper');
    await runCli(['init', bundle]);
    writeFileSync(
      join(bundle, 'index.ts'),
      `export const greet = (_event, context) => {
        context.log.info('asleep');
        return new Promise((resolve) => setTimeout(resolve, 20_000));
      };`,
    );
    const dataDir = join(folder, 'sleeper-data');
    const up = startCli(['up', bundle, '--data', dataDir, '--log-level', 'warn', ...FREE_PORTS]);
    const url = await up.says(/HTTP calls\s+(http:\S+)/);
    const call = fetch(`${url}/sleeper/greet/ada`).catch(() => undefined);
    const logs = ['logs', 'sleeper', '--data', dataDir];
    await until('the call is in the func', async () => (await runCli(logs)).stdout.includes('asleep'));
    up.child.kill('SIGINT');
    await up.says(/draining/);
    const drainingAt = performance.now();
    up.child.kill('SIGINT'); // the same wish, passed on by npm: it does not count
    await until('a second wish counts', () => performance.now() - drainingAt > 600);
    assert.equal(up.child.exitCode, null);
    up.child.kill('SIGINT');
    assert.equal(await up.ended, 130);
    await call;
  });

  it('refuses roles of their own on the embedded broker and store (2)', async () => {
    for (const role of ['frontend', 'tron', 'runner']) {
      const { code, stderr } = await runCli([role, '--data', join(folder, role)]);
      assert.equal(code, 2);
      assert.match(stderr, /--broker memory: and --store sqlite:/);
      assert.match(stderr, /→ .*--broker amqp.*funcatron up/);
    }
  });

  it('lists every bad setting at once (2)', async () => {
    const { code, stderr } = await runCli(['up', '--http-port', 'x', '--lease-ms', '1'], {
      env: { FUNCATRON_LOG_LEVEL: 'loud' },
    });
    assert.equal(code, 2);
    for (const name of ['--http-port', '--lease-ms', 'FUNCATRON_LOG_LEVEL']) assert.match(stderr, new RegExp(name));
  });

  it('says that tron cannot be reached, and what to do (3)', async () => {
    const { code, stderr } = await runCli(['ls', '--tron-url', `http://127.0.0.1:${await freePort()}`]);
    assert.equal(code, 3);
    assert.match(stderr, /cannot reach the management API[\s\S]*TRON_DOWN[\s\S]*funcatron up/);
  });

  it('bench prints what it has when it is interrupted (130), and says when nobody answers (3)', async () => {
    const server = createHttpServer((_req, res) => res.end()).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const url = `http://127.0.0.1:${port}/`;
    const bench = startCli(['bench', url, '-d', '600']);
    await new Promise((resolve) => server.once('request', resolve));
    bench.child.kill('SIGINT');
    assert.equal(await bench.ended, 130);
    assert.match(bench.stdout(), /answers +\d+/);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const none = await runCli(['bench', url, '-d', '600']);
    assert.equal(none.code, 3);
    assert.match(none.stderr, /nobody answers at http:\S+\n.*→ .*funcatron up/);
    const wrong = await runCli(['bench', 'localhost:8080', '-c', '0']);
    assert.equal(wrong.code, 2);
  });

  it('guesses what was meant (2)', async () => {
    const verb = await runCli(['depoly']);
    assert.deepEqual([verb.code, verb.stdout], [2, '']);
    assert.match(verb.stderr, /Did you mean deploy\?/);
    const flag = await runCli(['ls', '--jsno']);
    assert.equal(flag.code, 2);
    assert.match(flag.stderr, /Did you mean --json\?/);
  });

  it('refuses to write over what is there (2)', async () => {
    const bundle = join(folder, 'twice');
    assert.equal((await runCli(['init', bundle])).code, 0);
    const { code, stderr } = await runCli(['init', bundle]);
    assert.equal(code, 2);
    assert.match(stderr, /nothing was written/);
  });

  it('starts a runner with the young generation it was measured with, unless told otherwise', async () => {
    const preload = join(folder, 'preload.cjs');
    writeFileSync(preload, 'process.stdout.write(`${JSON.stringify(process.execArgv)}\\n`)');
    async function flagsOf(verb: string, options: string): Promise<unknown> {
      const env = { NODE_OPTIONS: `--require ${preload} ${options}` };
      const { stdout } = await runCli([verb, '--help'], { env });
      return JSON.parse(stdout.split('\n').findLast((line) => line.startsWith('[')) ?? 'null');
    }
    assert.deepEqual(await flagsOf('runner', ''), nodeFlags('runner'));
    assert.notEqual(nodeFlags('runner').length, 0);
    assert.deepEqual(await flagsOf('runner', '--max-semi-space-size=16'), []);
    assert.deepEqual(await flagsOf('runner', '--max_semi_space_size=16'), []);
    assert.deepEqual(await flagsOf('frontend', ''), []);
  });

  // Where the machine's own Node is as new as ours, there is nothing older to start from.
  const older = ['/usr/bin/node', '/usr/local/bin/node'].find((node) => {
    const { stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' });
    return /^v(18|2[0-5])\./.test(stdout ?? '');
  });
  if (older !== undefined) {
    it('runs on the project’s own Node when it is started by an older one', async () => {
      const { code, stdout } = await runCli(['--version'], { node: older });
      assert.equal(code, 0);
      assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
      const failing = await runCli(['validate', join(folder, 'nothing')], { node: older });
      assert.equal(failing.code, 4, failing.stderr);
    });
  }
});
