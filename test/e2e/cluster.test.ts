import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import { delay } from '../../core/lifecycle.ts';
import { openTestCluster, type TestCluster } from '../helpers/cluster.ts';
import { NoServer } from '../helpers/servers/provider.ts';
import { outcomeOf, startTraffic } from '../helpers/traffic.ts';
import { until } from '../helpers/until.ts';

const probe = join(import.meta.dirname, '../fixtures/bundles/probe');

interface Counters {
  readonly started: number;
  readonly finished: number;
  readonly aborted: number;
  readonly events: number;
}

interface RunnerView {
  readonly pid: number;
  readonly revisions: readonly { readonly state: string; readonly inFlight: number }[];
}

describe('a cluster of processes over RabbitMQ and Redis', function () {
  this.timeout(90_000);
  let cluster: TestCluster;
  let base: string;
  let nextKey = 0;
  const key = (): string => `key-${++nextKey}`;

  before(async function () {
    cluster = await openTestCluster({
      frontends: 2,
      runners: 2,
      env: { FUNCATRON_REPORT_MS: '200' },
    }).catch((error: unknown) => {
      if (!(error instanceof NoServer) || process.env['CI'] === 'true') throw error;
      return this.skip();
    });
    await cluster.deploy((await packBundle(probe)).archive);
    base = `${cluster.role('frontend-1').url}/probe`;
  });

  after(async () => await cluster?.close());

  afterEach('both runners are there', async () => {
    await restartDead();
    await untilRunners(2);
  });

  async function untilRunners(count: number): Promise<void> {
    await until(
      `${count} runners are ready`,
      async () => {
        const response = await cluster.tron('/runners');
        const body = (await response.json()) as { runners: { revisions: { state: string }[] }[] };
        return (
          body.runners.filter((runner) => runner.revisions.some((held) => held.state === 'ready')).length === count
        );
      },
      30_000,
    );
  }

  async function runners(): Promise<readonly RunnerView[]> {
    const response = await cluster.tron('/runners');
    return ((await response.json()) as { runners: RunnerView[] }).runners;
  }

  async function counters(of: string): Promise<Counters> {
    const response = await fetch(`${base}/counters/${of}`);
    return (await response.json()) as Counters;
  }

  async function untilStarted(of: string): Promise<void> {
    await until(`a func of ${of} started`, async () => (await counters(of)).started > 0);
  }

  /** Kills the runner that runs a func at the moment: it says so in its reports. */
  async function killBusyRunner(): Promise<void> {
    let busy: RunnerView | undefined;
    let since = performance.now();
    // For a while: a report may be about the short call before this one, and that was another runner's.
    await until('one runner goes on reporting a call in flight', async () => {
      const now = (await runners()).find((runner) => runner.revisions.some((held) => held.inFlight > 0));
      if (now?.pid !== busy?.pid) since = performance.now();
      busy = now;
      return busy !== undefined && performance.now() - since > 600;
    });
    for (const role of cluster.roles.values()) if (role.pid === busy?.pid) await role.end('SIGKILL');
  }

  async function restartDead(): Promise<void> {
    for (const name of ['runner-1', 'runner-2']) {
      const { pid } = cluster.role(name);
      if (!isAlive(pid)) await cluster.start(name);
    }
  }

  it('answers through both frontends', async () => {
    for (const name of ['frontend-1', 'frontend-2']) {
      const response = await fetch(`${cluster.role(name).url}/probe/who`);
      assert.equal(response.status, 200);
      assert.match(response.headers.get('server-timing') ?? '', /func/);
      assert.equal(((await response.json()) as { label: string }).label, 'first');
    }
  });

  it('runs an idempotent call again elsewhere when its runner is killed with it', async () => {
    const of = key();
    const call = fetch(`${base}/slow/3000/${of}`);
    await untilStarted(of);
    await killBusyRunner();
    const response = await call;
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { attempt: 2 });
  });

  it('answers 502 RUNNER_LOST for a POST whose runner is killed with it, and does not run it again', async () => {
    const of = key();
    const call = outcomeOf(`${base}/slow/3000/${of}`, { method: 'POST' });
    await untilStarted(of);
    await killBusyRunner();
    assert.equal(await call, '502 RUNNER_LOST');
    assert.equal((await counters(of)).started, 1);
  });

  it('answers 502 FUNC_CRASHED for a GET that kills its worker each time, and keeps its runners', async () => {
    const of = key();
    const pids = ['runner-1', 'runner-2'].map((name) => cluster.role(name).pid);
    assert.equal(await outcomeOf(`${base}/poison/${of}`), '502 FUNC_CRASHED');
    assert.ok((await counters(of)).started <= 3);
    assert.ok(pids.every(isAlive));
    await until('the bundle answers again', async () => (await outcomeOf(`${base}/who`)) === '200');
  });

  it('kills a looping worker at its deadline and goes on', async () => {
    assert.equal(await outcomeOf(`${base}/loop`), '504 TIMEOUT');
    await until('the bundle answers again', async () => (await outcomeOf(`${base}/who`)) === '200');
  });

  for (const [path, outcome] of [
    ['/throw', '500 FUNC_ERROR'],
    ['/never', '504 TIMEOUT'],
    ['/cycle', '502 INVALID_RESPONSE'],
    ['/huge', '502 RESPONSE_TOO_LARGE'],
    ['/lie', '502 INVALID_RESPONSE'],
    ['/nothing-here', '404 NO_ROUTE'],
    ['/slow/soon/x', '400 INVALID_REQUEST'],
  ] as const) {
    it(`answers ${outcome} for ${path}`, async () => {
      assert.equal(await outcomeOf(`${base}${path}`), outcome);
    });
  }

  it('tells the client nothing of what a func threw, and the log everything', async () => {
    const response = await fetch(`${base}/throw`);
    const text = await response.text();
    assert.ok(!text.includes('secret'), text);
    const { callId } = JSON.parse(text) as { callId: string };
    await until('the log has it', async () => {
      const lines = await (await cluster.tron(`/logs?bundle=probe&call=${callId}`)).text();
      return lines.includes('a secret nobody outside should read');
    });
  });

  it('answers 413 for a body over 16 MiB and carries one just below it', async () => {
    const small = Buffer.alloc(16 * 1024 * 1024 - 1024, 7);
    const response = await fetch(`${base}/echo`, {
      method: 'POST',
      body: small,
      headers: { 'content-type': 'application/octet-stream' },
    });
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), small);
    const outcome = await outcomeOf(`${base}/echo`, {
      method: 'POST',
      body: Buffer.alloc(16 * 1024 * 1024 + 1),
      headers: { 'content-type': 'application/octet-stream' },
    });
    assert.equal(outcome, '413 PAYLOAD_TOO_LARGE');
  });

  it('aborts the func when the client hangs up', async () => {
    const of = key();
    const hangUp = new AbortController();
    const call = fetch(`${base}/slow/10000/${of}`, { signal: hangUp.signal }).catch(() => undefined);
    await untilStarted(of);
    hangUp.abort();
    await call;
    await until('the func saw its signal abort', async () => (await counters(of)).aborted === 1);
    assert.equal((await counters(of)).finished, 0);
  });

  it('never starts a call whose deadline passed while it was queued', async () => {
    const of = key();
    const runners = ['runner-1', 'runner-2'].map((name) => cluster.role(name));
    for (const runner of runners) runner.signal('SIGSTOP');
    const calls = Array.from({ length: 20 }, () => outcomeOf(`${base}/short/1/${of}`, { method: 'POST' }));
    const outcomes = await Promise.all(calls);
    for (const runner of runners) runner.signal('SIGCONT');
    assert.deepEqual([...new Set(outcomes)], ['504 TIMEOUT']);
    await until('the runners answer again', async () => (await outcomeOf(`${base}/who`)) === '200');
    assert.equal((await counters(of)).started, 0);
  });

  it('costs no failed call to deploy a new revision under load, and to deploy the old one again', async () => {
    const traffic = startTraffic(`${base}/who`, 8);
    const first = await who();
    const second = await variant('second');
    await until('some calls were made', () => traffic.count() > 200);
    const { revision } = await cluster.deploy(second);
    assert.equal((await who()).revision, revision);
    await until('calls went to the new one', async () => (await who()).label === 'second');
    const before = traffic.count();
    await until('more calls were made', () => traffic.count() > before + 200);
    await cluster.deploy((await packBundle(probe)).archive);
    assert.equal((await who()).revision, first.revision);
    await traffic.stop();
    assert.deepEqual([...traffic.outcomes.keys()], ['200'], JSON.stringify([...traffic.outcomes]));
  });

  it('keeps the old revision when the init of a new one fails, and says why', async () => {
    const broken = await variant('broken', 'export const init = () => { throw new Error("no database today"); };');
    await assert.rejects(cluster.deploy(broken), /422.*DEPLOY_FAILED.*no database today/s);
    assert.equal((await who()).label, 'first');
  });

  it('finishes started calls and hands on the others when a runner gets SIGTERM', async () => {
    const keys = Array.from({ length: 60 }, key);
    const calls = keys.map((of) => outcomeOf(`${base}/slow/1500/${of}`, { method: 'POST' }));
    await untilStarted(keys[0] ?? '');
    assert.equal(await cluster.role('runner-1').end('SIGTERM'), 0);
    const outcomes = new Set(await Promise.all(calls));
    await cluster.start('runner-1');
    assert.deepEqual([...outcomes], ['200']);
    for (const of of keys) assert.deepEqual(await counters(of), { started: 1, finished: 1, aborted: 0, events: 0 });
  });

  it('finishes the calls in flight when a frontend gets SIGTERM', async () => {
    const calls = Array.from({ length: 10 }, () =>
      outcomeOf(`${cluster.role('frontend-2').url}/probe/slow/1000/${key()}`),
    );
    await delay(300);
    const ended = cluster.role('frontend-2').end('SIGTERM');
    assert.deepEqual([...new Set(await Promise.all(calls))], ['200']);
    assert.equal(await ended, 0);
    await cluster.start('frontend-2');
  });

  it('goes on without Tron and the store, and starts a frontend without them', async () => {
    const traffic = startTraffic(`${base}/who`, 4);
    await until('some calls were made', () => traffic.count() > 50);
    assert.equal(await cluster.role('tron-1').end('SIGTERM'), 0);
    await cluster.redis.stop();
    await cluster.role('frontend-2').end('SIGKILL');
    const frontend = await cluster.start('frontend-2', { wait: false });
    await until(
      'the new frontend serves',
      async () => (await outcomeOf(`${frontend.url}/probe/who`)) === '200',
      30_000,
    );
    const before = traffic.count();
    await until('more calls were made', () => traffic.count() > before + 50);
    await cluster.redis.start();
    await cluster.start('tron-1');
    await traffic.stop();
    assert.deepEqual([...traffic.outcomes.keys()], ['200'], JSON.stringify([...traffic.outcomes]));
  });

  it('says 503 at once while RabbitMQ is down, and serves again by itself when it is back', async () => {
    await cluster.rabbit.stop();
    await until('calls are refused', async () => (await outcomeOf(`${base}/who`)) === '503 BROKER_DOWN');
    assert.equal((await fetch(`${cluster.role('frontend-1').adminUrl}/readyz`)).status, 503);
    await cluster.rabbit.start();
    await until('calls are answered', async () => (await outcomeOf(`${base}/who`)) === '200', 30_000);
    await until('and events again', async () => (await cluster.tron('/runners')).ok, 30_000);
  });

  it('says 503 NO_RUNNER when no runner is left, with Retry-After', async () => {
    for (const name of ['runner-1', 'runner-2']) await cluster.role(name).end('SIGTERM');
    await until('nobody is ready', async () => (await outcomeOf(`${base}/who`)) === '503 NO_RUNNER', 30_000);
    assert.ok(Number((await fetch(`${base}/who`)).headers.get('retry-after')) >= 1);
    for (const name of ['runner-1', 'runner-2']) await cluster.start(name);
    await until('the bundle answers again', async () => (await outcomeOf(`${base}/who`)) === '200', 30_000);
  });

  it('takes calls and events from any AMQP client', async function () {
    const hasTools = spawnSync('amqp-publish', ['--help']).error === undefined;
    if (!hasTools && process.env['CI'] !== 'true') this.skip();
    const of = key();
    const url = cluster.rabbit.url();
    amqp('amqp-declare-queue', ['-u', url, '-q', 'a-foreign-client']);
    amqp('amqp-publish', [
      '-u',
      url,
      '-e',
      'funcatron.call',
      '-r',
      'probe.echo',
      '-t',
      'a-foreign-client',
      '-C',
      'application/json',
      '-b',
      '{"from":"outside"}',
    ]);
    let answer = '';
    await until('the answer is there', () => {
      answer = spawnSync('amqp-get', ['-u', url, '-q', 'a-foreign-client'], { encoding: 'utf8' }).stdout;
      return answer !== '';
    });
    assert.deepEqual(JSON.parse(answer), { from: 'outside' });
    amqp('amqp-publish', [
      '-u',
      url,
      '-e',
      'funcatron.call',
      '-r',
      'probe.onEvent',
      '-C',
      'application/json',
      '-H',
      `fn-path-key: ${of}`,
      '-b',
      '{}',
    ]);
    await until('the event ran', async () => (await counters(of)).events === 1);
  });

  function amqp(command: string, args: readonly string[]): void {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    assert.equal(status, 0, `${command}: ${stderr}`);
  }

  async function who(): Promise<{ revision: string; label: string }> {
    return (await (await fetch(`${base}/who`)).json()) as { revision: string; label: string };
  }

  /** The probe bundle with another label, and more code. */
  async function variant(label: string, code = ''): Promise<Uint8Array> {
    const folder = await mkdtemp(join(tmpdir(), 'funcatron-probe-'));
    try {
      await cp(probe, folder, { recursive: true });
      const document = join(folder, 'funcatron.yaml');
      await writeFile(document, (await readFile(document, 'utf8')).replace('label: first', `label: ${label}`));
      const entry = join(folder, 'index.ts');
      await writeFile(entry, `${await readFile(entry, 'utf8')}\n${code}\n`);
      return (await packBundle(folder)).archive;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
