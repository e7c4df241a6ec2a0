import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packBundle } from '../../core/bundle/pack.ts';
import { runCli } from '../helpers/cli.ts';
import { openTestCluster, type RoleProcess, type TestCluster } from '../helpers/cluster.ts';
import { startOrSkip } from '../helpers/servers/provider.ts';
import { freePort } from '../helpers/servers/port.ts';
import { get, send } from '../helpers/transfers.ts';
import { until } from '../helpers/until.ts';

const BUNDLE = join(import.meta.dirname, '../fixtures/bundles/direct-faults');
const MiB = 1024 * 1024;
const RUNNERS = ['runner-1', 'runner-2'];
const DRAIN_MS = 3_000;

describe('the direct path under faults, over RabbitMQ', function () {
  this.timeout(120_000);
  let cluster: TestCluster;
  let url: string;

  before(async function () {
    const env = { FUNCATRON_DRAIN_MS: String(DRAIN_MS) };
    cluster = await startOrSkip(this, () => openTestCluster({ runners: 2, env }));
    url = `${cluster.role('frontend-1').url}/faults`;
    await cluster.deploy((await packBundle(BUNDLE)).archive);
  });
  after(() => cluster?.close());
  afterEach(() => isIdle());

  async function metric(role: RoleProcess, pattern: RegExp): Promise<number> {
    const text = await (await fetch(`${role.adminUrl}/metrics`)).text();
    const values = text.split('\n').filter((line) => pattern.test(line));
    return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  const exchanges = (name: string): Promise<number> => metric(cluster.role(name), /^funcatron_runner_direct_exchanges/);

  /** Nothing is left of any transfer: at the runners (exchanges, offers, addresses, calls) and at the frontend. */
  async function isIdle(): Promise<void> {
    const left = /^funcatron_runner_(direct_(exchanges|offers)|reply_addresses|calls_in_flight)/;
    for (const name of RUNNERS) {
      await until(`${name} holds nothing`, async () => (await metric(cluster.role(name), left)) === 0, 20_000);
    }
    await until('the frontend waits for nothing', async () => {
      const { frontends } = (await (await cluster.tron('/frontends')).json()) as { frontends: { inFlight: number }[] };
      return frontends.every(({ inFlight }) => inFlight === 0);
    });
    await until('both runners serve', async () => {
      const { bundle } = (await (await cluster.tron('/bundles/faults')).json()) as { bundle?: unknown };
      const answers = await Promise.all([get(`${url}/seen`), get(`${url}/seen`)]);
      return bundle !== null && answers.every(({ status }) => status === 200);
    });
  }

  /** The runner that has the one exchange there is. */
  async function busyRunner(): Promise<string> {
    let busy: string | undefined;
    await until('a runner is busy', async () => {
      for (const name of RUNNERS) if ((await exchanges(name)) === 1) busy = name;
      return busy !== undefined;
    });
    return busy ?? assert.fail();
  }

  /** An upload whose func has begun to read, and the runner that has it. */
  async function uploading(path = 'hold') {
    const { req, ended } = send(`${url}/${path}`, { method: 'POST' });
    req.write('some of it');
    return { req, ended, runner: await busyRunner() };
  }

  async function downloading(query = 'everyMs=20&bytes=1000') {
    const { req, ended } = send(`${url}/made?${query}`);
    req.end();
    const res = await new Promise<IncomingMessage>((resolve) => req.on('response', resolve));
    await new Promise((resolve) => res.once('data', resolve));
    return { req, res, ended, runner: await busyRunner() };
  }

  /** Kills every process of a runner's workers, those that wait for a bundle too. */
  function killWorkers({ pid }: RoleProcess): void {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim();
      for (const child of children.split(' ').filter((each) => each !== '')) process.kill(Number(child), 'SIGKILL');
    }
  }

  describe('a runner that is killed', () => {
    it('answers 502 RUNNER_LOST to an upload', async () => {
      const { ended, runner } = await uploading();
      await cluster.role(runner).end('SIGKILL');
      const { status, code } = await ended;
      assert.deepEqual({ status, code }, { status: 502, code: 'RUNNER_LOST' });
      await cluster.start(runner);
    });

    it('cuts a download off', async () => {
      const { ended, runner } = await downloading();
      await cluster.role(runner).end('SIGKILL');
      const { status, isCut } = await ended;
      assert.deepEqual({ status, isCut }, { status: 200, isCut: true });
      await cluster.start(runner);
    });

    it('takes nothing from others: the calls after it are well', async () => {
      const { ended, runner } = await uploading();
      const killed = cluster.role(runner).end('SIGKILL');
      const others = Array.from({ length: 8 }, () => {
        const other = send(`${url}/hash`, { method: 'POST' });
        other.req.end(Buffer.alloc(100_000));
        return other.ended;
      });
      await killed;
      assert.equal((await ended).code, 'RUNNER_LOST');
      for (const other of others) {
        const { status, code } = await other;
        assert.ok(status === 200 || code === 'RUNNER_LOST', `${status} ${code}`);
      }
      const { req, ended: later } = send(`${url}/hash`, { method: 'POST' });
      req.end('well');
      assert.equal((await later).text, '{"bytes":4}');
      await cluster.start(runner);
    });
  });

  describe('a worker that is killed', () => {
    it('answers 502 FUNC_CRASHED to an upload', async () => {
      const { ended, runner } = await uploading();
      killWorkers(cluster.role(runner));
      assert.equal((await ended).code, 'FUNC_CRASHED');
    });

    it('cuts a download off', async () => {
      const { ended, runner } = await downloading();
      killWorkers(cluster.role(runner));
      const { status, isCut } = await ended;
      assert.deepEqual({ status, isCut }, { status: 200, isCut: true });
    });
  });

  it('gives everything back when the frontend is killed', async () => {
    const [upload, download] = [await uploading(), send(`${url}/made?everyMs=20`)];
    download.req.end();
    await new Promise((resolve) => download.req.on('response', resolve));
    await cluster.role('frontend-1').end('SIGKILL');
    assert.equal((await upload.ended).isCut, true);
    assert.equal((await download.ended).isCut, true);
    await cluster.start('frontend-1');
    await until('it has its routes', async () => (await get(`${url}/seen`)).status === 200);
  });

  describe('a process that drains', () => {
    it('lets a transfer of the runner end, and ends by itself then', async () => {
      const { req, ended, runner } = await uploading('hash');
      const exit = cluster.role(runner).end('SIGTERM');
      await until(
        'it is draining',
        async () => (await fetch(`${cluster.role(runner).adminUrl}/readyz`)).status === 503,
      );
      req.end(', and the rest');
      assert.equal((await ended).text, '{"bytes":24}');
      assert.equal(await exit, 0);
      await cluster.start(runner);
    });

    it('cuts off what the runner streams without end, after drainMs', async () => {
      const { ended, runner } = await downloading();
      assert.equal(await cluster.role(runner).end('SIGTERM'), 0);
      assert.equal((await ended).isCut, true);
      await cluster.start(runner);
    });

    it('lets a transfer of the frontend end', async () => {
      const { req, ended } = await uploading('hash');
      const exit = cluster.role('frontend-1').end('SIGTERM');
      await new Promise((resolve) => setTimeout(resolve, 300));
      req.end(', and the rest');
      assert.equal((await ended).text, '{"bytes":24}');
      assert.equal(await exit, 0);
      await cluster.start('frontend-1');
      await until('it has its routes', async () => (await get(`${url}/seen`)).status === 200);
    });
  });

  it('goes on with the stream of an old revision after a deploy, for drainMs', async () => {
    const { ended, res } = await downloading();
    let bytes = 0;
    res.on('data', (piece: Buffer) => (bytes += piece.length));
    const folder = mkdtempSync(join(tmpdir(), 'funcatron-faults-'));
    cpSync(BUNDLE, folder, { recursive: true });
    symlinkSync(join(import.meta.dirname, '../../node_modules'), join(folder, 'node_modules'));
    const file = join(folder, 'funcatron.yaml');
    writeFileSync(file, readFileSync(file, 'utf8').replace('version: 1.0.0', 'version: 1.1.0'));
    await cluster.deploy((await packBundle(folder)).archive);
    rmSync(folder, { recursive: true });
    const { length } = (await get(`${url}/seen`)).text;
    assert.ok(length > 0);
    const before = bytes;
    await until('the old one still makes its body', () => bytes > before);
    assert.equal((await ended).isCut, true);
  });

  describe('a runner whose direct URL is wrong', () => {
    let wrong: string;
    before(async () => {
      wrong = `http://127.0.0.1:${await freePort()}`;
    });
    after(async () => {
      for (const name of RUNNERS) {
        await cluster.role(name).end('SIGTERM');
        await cluster.start(name);
      }
    });

    async function restart(name: string): Promise<void> {
      await cluster.role(name).end('SIGTERM');
      await cluster.start(name, { env: { FUNCATRON_DIRECT_URL: wrong } });
      await until('both hold the bundle', async () => {
        const { runners } = (await (await cluster.tron('/runners')).json()) as {
          runners: { revisions: { state: string }[] }[];
        };
        return (
          runners.length === 2 && runners.every(({ revisions }) => revisions.some(({ state }) => state === 'ready'))
        );
      });
    }

    async function doctor(): Promise<readonly { name: string; state: string; text: string; fix?: string }[]> {
      const { stdout } = await runCli(['doctor', '--json', '--tron-url', cluster.role('tron-1').url], {
        env: {
          FUNCATRON_TOKEN: 'token-of-the-test-cluster',
          FUNCATRON_BROKER_URL: 'memory:',
          FUNCATRON_STORE_URL: 'sqlite:',
        },
      });
      return JSON.parse(stdout) as Awaited<ReturnType<typeof doctor>>;
    }

    it('is passed over for the other one', async () => {
      await restart('runner-1');
      for (let count = 0; count < 6; count++) {
        const { req, ended } = send(`${url}/hash`, { method: 'POST' });
        req.end('a body');
        assert.equal((await ended).text, '{"bytes":6}');
      }
    });

    it('is named by doctor, with what to set', async () => {
      const found = (await doctor()).filter(({ name }) => name === 'direct');
      assert.equal(found.length, 1);
      assert.equal(found[0]?.state, 'bad');
      assert.match(found[0]?.text ?? '', new RegExp(`cannot reach runner .* at ${wrong}: ECONNREFUSED`));
      assert.match(found[0]?.fix ?? '', /--direct-url/);
    });

    it('leads to 502 RUNNER_UNREACHABLE when it is all there are', async () => {
      await restart('runner-2');
      const { req, ended } = send(`${url}/hash`, { method: 'POST' });
      req.end('a body');
      const { status, code } = await ended;
      assert.deepEqual({ status, code }, { status: 502, code: 'RUNNER_UNREACHABLE' });
    });
  });

  describe('a peer that is slow', () => {
    const residentMiB = ({ pid }: RoleProcess): number => {
      const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
      return Number(line?.[1]) / 1024;
    };

    /** Heaps and buffers have the size they keep: the first bodies make both processes some 60 MiB larger, the next no more. */
    before(async () => {
      for (let count = 0; count < 2 * RUNNERS.length; count++) {
        await get(`${url}/made?bytes=65536&pieces=400`);
        const { req, ended } = send(`${url}/hash`, { method: 'POST' });
        req.end(Buffer.alloc(24 * MiB));
        assert.equal((await ended).status, 200);
      }
    });

    /** By how much the frontend and the runner grow at most while `step` says that it goes on. */
    async function growth(runner: string, isDone: () => boolean): Promise<number> {
      const roles = [cluster.role('frontend-1'), cluster.role(runner)];
      const before = roles.map(residentMiB);
      let most = 0;
      await until(
        'the transfer is done',
        () => {
          for (const [index, role] of roles.entries()) most = Math.max(most, residentMiB(role) - (before[index] ?? 0));
          return isDone();
        },
        100_000,
      );
      return most;
    }

    it('reads: neither process keeps what it has not taken', async () => {
      const { res, runner, req } = await downloading('bytes=65536');
      let bytes = 0;
      let isDone = false;
      res.on('data', (piece: Buffer) => {
        bytes += piece.length;
        isDone = bytes >= 32 * MiB;
        res.pause();
        setTimeout(() => res.resume(), 5);
      });
      assert.ok((await growth(runner, () => isDone)) < 64);
      req.destroy();
    });

    it('is the func: neither process keeps what it has not read', async () => {
      const { req, ended, runner } = await uploading('slowly');
      let isDone = false;
      void ended.then(() => (isDone = true));
      let left = 16;
      const more = (): void => {
        if (left-- > 0) req.write(Buffer.alloc(MiB), more);
        else req.end();
      };
      more();
      assert.ok((await growth(runner, () => isDone)) < 64);
      assert.equal((await ended).text, `{"bytes":${16 * MiB + 10}}`);
    });
  });
});
