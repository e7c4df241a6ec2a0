import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bundle } from '../../cli/answers.ts';
import { childrenOf, openBombCluster, type BombCluster, type Deployed } from '../fixtures/bombs/runner.ts';
import { runCli, startCli, type CliResult, type RunningCli } from '../helpers/cli.ts';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { until } from '../helpers/until.ts';

/** Its worker comes up, and dies soon afterwards of what no call did. */
const crashing = `
  exports.run = () => 'ran';
  exports.init = () => {
    setTimeout(() => { const all = []; for (;;) all.push(new Array(1e6).fill(all.length)); }, 50);
  };`;

describe('a bundle that keeps crashing, in runners as processes over RabbitMQ', function () {
  this.timeout(90_000);
  const rabbit = useRabbit();
  let cluster: BombCluster;

  beforeEach(async () => {
    cluster = await openBombCluster(rabbit.url());
  });

  afterEach(async () => {
    await cluster.close();
  });

  const stateOf = (runner: string, deployed: Deployed): string | undefined => cluster.held(runner, deployed)?.state;

  /** Ends every worker of `runner` with SIGKILL, once. */
  function killWorkers(runner: string): void {
    for (const pid of childrenOf(cluster.pid(runner))) process.kill(pid, 'SIGKILL');
  }

  it('is in quarantine where it crashes: others get its calls; it comes back by itself when the cause is gone', async () => {
    const shop = await cluster.add('shop', `exports.run = () => 'ran'`, ['run'], { workers: { min: 1, max: 1 } });
    await cluster.hold(['r1', 'r2'], shop);
    await Promise.all(['r1', 'r2'].map((id) => cluster.start(id)));
    await until('both hold it', () => stateOf('r1', shop) === 'ready' && stateOf('r2', shop) === 'ready');
    const since = Date.now();
    await until(
      'it is in quarantine',
      () => {
        killWorkers('r1');
        return stateOf('r1', shop) === 'failed';
      },
      40_000,
    );
    const held = cluster.held('r1', shop);
    // Killed while it served, or while it started.
    assert.match(held?.error?.message ?? '', /the worker (died|is gone)/);
    assert.ok((held?.since ?? 0) >= since && (held?.since ?? 0) <= Date.now());
    assert.ok((held?.retryAt ?? 0) > (held?.since ?? 0));
    await until('only the other consumes', async () => (await cluster.consumers(shop)) === 1);
    for (let count = 0; count < 20; count++) {
      const { status, body } = await cluster.call(shop, 'run');
      assert.equal(status, 200, body);
    }
    await until('it is back', () => stateOf('r1', shop) === 'ready', 40_000);
    await until('both consume', async () => (await cluster.consumers(shop)) === 2);
    assert.equal(cluster.held('r1', shop)?.since, undefined);
  });

  it('is not held against its next revision, which serves at once', async () => {
    const sick = await cluster.add('shop', crashing, ['run'], { memoryMb: 64, workers: { min: 1, max: 1 } });
    await cluster.hold(['r1'], sick);
    await cluster.start('r1');
    await until('it is in quarantine', () => stateOf('r1', sick) === 'failed', 40_000);
    const first = cluster.held('r1', sick)?.since ?? assert.fail();
    await until(
      'it was tried again and failed again',
      () => {
        const held = cluster.held('r1', sick);
        return held?.state === 'failed' && (held.retryAt ?? 0) - first > 2_000;
      },
      40_000,
    );
    assert.equal(cluster.held('r1', sick)?.since, first);
    const well = await cluster.add('shop', `exports.run = () => 'well'`, ['run']);
    await cluster.hold(['r1'], sick, well);
    await until('the next is ready', () => stateOf('r1', well) === 'ready');
    assert.equal((await cluster.call(well, 'run')).body, 'well');
  });
});

describe('describe of a bundle that keeps crashing', function () {
  this.timeout(90_000);
  let folder: string;
  let up: RunningCli;

  const document = `openapi: 3.1.0
info: { title: Shop, version: 1.0.0 }
x-funcatron: { name: shop, memoryMb: 64 }
paths: { /run: { get: { operationId: run, responses: { '200': { description: ok } } } } }
`;

  const cli = (...args: string[]): Promise<CliResult> =>
    runCli(args, { env: { FUNCATRON_DATA: join(folder, 'data') } });

  async function deploy(source: string): Promise<void> {
    const bundle = join(folder, 'shop');
    mkdirSync(bundle, { recursive: true });
    writeFileSync(join(bundle, 'funcatron.yaml'), document);
    writeFileSync(join(bundle, 'index.ts'), source.replaceAll('exports.', 'export const '));
    const { code, stderr } = await cli('deploy', bundle);
    assert.equal(code, 0, stderr);
  }

  async function describe_(): Promise<Bundle> {
    const { code, stdout, stderr } = await cli('describe', 'shop', '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as Bundle;
  }

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-quarantine-'));
    up = startCli(['up', '--http-port', '0', '--tron-port', '0', '--data', join(folder, 'data')]);
  });

  afterEach(async () => {
    up.child.kill('SIGTERM');
    await up.ended;
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  it('says failed, why, since when, and when it is tried again; nothing of it once a new revision is live', async () => {
    await up.says(/http:\/\/127\.0\.0\.1:\d+/);
    await deploy(crashing);
    let bundle: Bundle | undefined;
    await until('it says so', async () => (bundle = await describe_()).failures !== undefined, 60_000);
    const [failure] = bundle?.failures ?? [];
    assert.equal(failure?.state, 'failed');
    assert.equal(failure.error?.code, 'FUNC_CRASHED');
    assert.match(failure.error.message, /memory/);
    assert.ok(Date.parse(failure.since ?? '') <= Date.now());
    assert.ok(Date.parse(failure.retryAt ?? '') > Date.parse(failure.since ?? ''));
    await until(
      'a person is told too',
      async () => {
        const { stdout, stderr } = await cli('describe', 'shop');
        return (
          /state +failed: .*next try/.test(stdout) &&
          / quarantine +0 /.test(stdout) &&
          /funcatron logs shop/.test(stderr)
        );
      },
      60_000,
    );
    const logs = await cli('logs', 'shop');
    assert.match(logs.stdout, /error shop +the worker died \(memory\)/);
    await deploy(`exports.run = () => 'well'`);
    await until('all is well', async () => (await describe_()).failures === undefined, 30_000);
    const live = Object.keys((await describe_()).live);
    await until('its worker is counted', async () => {
      const { runners = [] } = await describe_();
      const held = runners.find(({ revision }) => revision === live[0]);
      return held?.workers === 1 && held.bounds?.max === 2 && held.restarts === 0;
    });
  });
});
