import assert from 'node:assert/strict';
import { StoreKey } from '../../core/wire/control.ts';
import { REPORT_QUEUE } from '../../core/wire/topology.ts';
import { usePrivateRedis } from '../helpers/servers/redis.ts';
import { usePrivateRabbit, useRabbit } from '../helpers/servers/rabbitmq.ts';
import { useRedis } from '../helpers/servers/redis.ts';
import { until } from '../helpers/until.ts';
import { openHarness, pack, type Servers, type TestMember, type TestTron, type TronHarness } from './tron-harness.ts';

describe('tron failover on the embedded broker and store', () => {
  suite(() => undefined);
});

describe('tron failover on RabbitMQ and Redis', () => {
  const rabbit = useRabbit();
  const redis = useRedis();
  suite(() => ({ brokerUrl: rabbit.url(), storeUrl: redis.url() }));
});

function suite(servers: () => Servers | undefined): void {
  let cluster: TronHarness;
  beforeEach(async () => {
    cluster = await openHarness(servers());
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(cluster.logged());
    await cluster.close();
  });

  async function leaderAndFollower(): Promise<[TestTron, TestTron]> {
    const leader = await cluster.tron();
    await until('it leads', async () => (await cluster.store.leaseOwner(StoreKey.leader)) === leader.id);
    const follower = await cluster.tron();
    return [leader, follower];
  }

  async function stuckDeploy(tron: TestTron, runner: TestMember): Promise<{ answer: ReturnType<TestTron['call']> }> {
    runner.isStuck = true;
    const answer = tron.call('POST', '/v1/bundles', { body: await pack('orders') });
    await until(
      'it is under way',
      async () => (await cluster.snapshot()).bundles[0]?.revisions[0]?.phase === 'loading',
    );
    return { answer };
  }

  const term = async (): Promise<number> => Number((await cluster.snapshot()).epoch?.split('.')[0] ?? 0);

  it('a follower takes a deploy, and refuses as the leader does', async () => {
    const [, follower] = await leaderAndFollower();
    await cluster.runner('r1');
    const deployed = await follower.call('POST', '/v1/bundles', { body: await pack('orders') });
    assert.equal(deployed.status, 201, deployed.text);
    assert.deepEqual((await cluster.snapshot()).bundles[0]?.weights, { [deployed.json.revision]: 100 });
    assert.equal((await follower.call('GET', '/v1/runners')).json.runners[0].id, 'r1');
    const unknown = await follower.call('POST', '/v1/bundles/none/rollback');
    assert.equal(unknown.status, 404);
    assert.match(unknown.json.hint, /there are: orders/);
  });

  it('the next leader finishes a deploy whose leader stops half-way, and the follower that took it answers', async () => {
    const [leader, follower] = await leaderAndFollower();
    const runner = await cluster.runner('r1');
    await until('it is known', async () => (await leader.call('GET', '/v1/runners')).json.runners.length === 1);
    const { answer } = await stuckDeploy(follower, runner);
    const before = await term();
    await leader.close();
    await until('the other one leads', async () => (await cluster.store.leaseOwner(StoreKey.leader)) === follower.id);
    runner.isStuck = false;
    const deployed = await answer;
    assert.equal(deployed.status, 201, deployed.text);
    assert.deepEqual((await cluster.snapshot()).bundles[0]?.weights, { [deployed.json.revision]: 100 });
    assert.ok((await term()) > before);
  });

  it('a leader that was paused beyond its lease writes nothing any more; what it had begun is finished by the next', async () => {
    const [paused, other] = await leaderAndFollower();
    const runner = await cluster.runner('r1');
    await until('it is known', async () => (await paused.call('GET', '/v1/runners')).json.runners.length === 1);
    const { answer } = await stuckDeploy(paused, runner);
    paused.pauseStore();
    await until('the other one leads', async () => (await cluster.store.leaseOwner(StoreKey.leader)) === other.id);
    runner.isStuck = false;
    await until(
      'the deploy is done',
      async () => Object.keys((await cluster.snapshot()).bundles[0]?.weights ?? {}).length === 1,
    );
    const { epoch, leader } = await cluster.snapshot();
    assert.equal(leader, other.id);
    paused.resumeStore();
    const deployed = await answer;
    assert.ok(deployed.status === 200 || deployed.status === 201, deployed.text);
    await until('a change of the new leader is there', async () => {
      await other.call('PUT', '/v1/bundles/orders/scale', { body: { min: 1, max: 2 } });
      return (await cluster.snapshot()).epoch !== epoch;
    });
    assert.equal((await cluster.snapshot()).leader, other.id);
  });

  it('goes on with a half-done deploy after a restart', async () => {
    const tron = await cluster.tron();
    const runner = await cluster.runner('r1');
    await until('it is known', async () => (await tron.call('GET', '/v1/runners')).json.runners.length === 1);
    const { answer } = await stuckDeploy(tron, runner);
    await tron.close();
    assert.equal((await answer).json.code, servers() === undefined ? 'SHUTTING_DOWN' : 'NO_LEADER');
    const again = await cluster.tron();
    runner.isStuck = false;
    await until(
      'it is live',
      async () => Object.keys((await cluster.snapshot()).bundles[0]?.weights ?? {}).length === 1,
    );
    await until(
      'the change is done',
      async () => (await again.call('GET', '/v1/bundles/orders')).json.change === undefined,
    );
  });

  it('takes a half-done deploy back after a restart when it cannot be done', async () => {
    let why: string | undefined;
    const tron = await cluster.tron();
    const runner = await cluster.runner('r1', { failing: () => why });
    await until('it is known', async () => (await tron.call('GET', '/v1/runners')).json.runners.length === 1);
    const { answer } = await stuckDeploy(tron, runner);
    await tron.close();
    assert.equal((await answer).status, 503);
    why = 'no such table';
    runner.isStuck = false;
    const again = await cluster.tron();
    await until('it is taken back', async () => {
      const { json } = await again.call('GET', '/v1/bundles/orders');
      return json.change === undefined && /no such table/.test(json.lastChange?.error.message);
    });
    assert.deepEqual((await cluster.snapshot()).bundles, []);
  });

  it('a change of leader keeps what runners hold, and takes no routes away', async () => {
    const [leader, follower] = await leaderAndFollower();
    await Promise.all([cluster.runner('r1'), cluster.runner('r2')]);
    const frontend = await cluster.frontend('f1');
    await until('they are known', async () => (await leader.call('GET', '/v1/runners')).json.runners.length === 2);
    assert.equal((await leader.call('POST', '/v1/bundles', { body: await pack('orders') })).status, 201);
    const ready: number[] = [];
    frontend.membership.onSnapshot(({ bundles }) => ready.push(bundles[0]?.revisions[0]?.ready ?? 0));
    const before = await term();
    await leader.close();
    await until('the frontend follows the new leader', async () => {
      const { leader: id } = frontend.membership.snapshot ?? {};
      return id === follower.id && (await term()) > before;
    });
    await until('the new leader knows everybody', async () => {
      return (await follower.call('GET', '/v1/runners')).json.runners.length === 2;
    });
    // The embedded broker's members die with it, so nobody is presumed to live there.
    if (servers() !== undefined) assert.ok(!ready.includes(0), ready.join());
    await until('all is as it was', () => frontend.membership.snapshot?.bundles[0]?.revisions[0]?.ready === 2);
  });

  it('goes above a term that only a member remembers', async () => {
    const tron = await cluster.tron();
    await until('it leads', async () => (await cluster.store.leaseOwner(StoreKey.leader)) === tron.id);
    await until('it has written', async () => (await term()) > 0);
    const future = (await term()) + 1_000;
    const report = {
      v: 1,
      role: 'runner',
      id: 'r9',
      version: '0.0.0',
      hostname: 'elsewhere',
      pid: 1,
      startedAt: Date.now(),
      sentAt: Date.now(),
      epoch: `${future}.3`,
      stopping: false,
      revisions: [],
    };
    await until('a report is taken', async () => {
      const outcome = await cluster.broker.publish({
        exchange: '',
        routingKey: REPORT_QUEUE,
        body: Buffer.from(JSON.stringify(report)),
        properties: {},
        mandatory: true,
      });
      return outcome === 'accepted';
    });
    await until('the term is higher', async () => (await term()) > future);
  });
}

describe('tron without its servers', () => {
  const redis = usePrivateRedis();
  const rabbit = usePrivateRabbit();
  let cluster: TronHarness;
  beforeEach(async () => {
    cluster = await openHarness({ brokerUrl: rabbit.server().url(), storeUrl: redis.server().url() });
  });
  afterEach(() => cluster.close());

  it('answers STORE_DOWN while the store is stopped, says so in /readyz, drops nobody, and goes on afterwards', async function () {
    this.timeout(60_000);
    const tron = await cluster.tron();
    await cluster.runner('r1');
    const frontend = await cluster.frontend('f1');
    assert.equal((await tron.call('POST', '/v1/bundles', { body: await pack('orders') })).status, 201);
    const { snapshot } = frontend.membership;
    await redis.server().stop();
    const down = await tron.call('POST', '/v1/bundles', { body: await pack('orders', '2') });
    assert.equal(down.status, 503);
    assert.equal(down.json.code, 'STORE_DOWN');
    const ready = await fetch(`http://127.0.0.1:${tron.adminPort}/readyz`);
    assert.equal(ready.status, 503);
    assert.match(await ready.text(), /store/);
    assert.deepEqual(frontend.membership.snapshot?.bundles, snapshot?.bundles);
    await redis.server().start();
    await until(
      'a deploy works again',
      async () => (await tron.call('POST', '/v1/bundles', { body: await pack('orders', '2') })).status < 300,
      20_000,
    );
  });

  it('drops no member because RabbitMQ is away, and deploys when it is back', async function () {
    this.timeout(120_000);
    const tron = await cluster.tron({ memberLostMs: 5_000 });
    await cluster.runner('r1');
    assert.equal((await tron.call('POST', '/v1/bundles', { body: await pack('users') })).status, 201);
    await rabbit.server().kill9();
    const down = await tron.call('POST', '/v1/bundles', { body: await pack('users', '2') });
    assert.equal(down.json.code, 'BROKER_DOWN');
    assert.equal((await fetch(`http://127.0.0.1:${tron.adminPort}/readyz`)).status, 503);
    const runners = (await cluster.snapshot()).bundles[0]?.revisions[0]?.runners;
    assert.deepEqual(runners, ['r1']);
    await rabbit.server().start();
    await until(
      'a deploy works again',
      async () => (await tron.call('POST', '/v1/bundles', { body: await pack('users', '2') })).status < 300,
      60_000,
    );
    assert.ok(!/were dropped/.test(cluster.logged()));
  });
});
