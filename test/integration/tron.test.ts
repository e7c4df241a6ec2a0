import assert from 'node:assert/strict';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { useRedis } from '../helpers/servers/redis.ts';
import { until } from '../helpers/until.ts';
import type { Snapshot } from '../../core/wire/control.ts';
import { callQueue, listenerQueue, listenerTopology, stateExchange } from '../../core/wire/topology.ts';
import { openHarness, pack, TOKEN, type Servers, type TestTron, type TronHarness } from './tron-harness.ts';

describe('tron on the embedded broker and store', () => {
  suite(() => undefined);
});

describe('tron on RabbitMQ and Redis', () => {
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

  async function everybodyKnown(tron: TestTron, runners: number, frontends: number): Promise<void> {
    await until('everybody is known', async () => {
      const known = await Promise.all([tron.call('GET', '/v1/runners'), tron.call('GET', '/v1/frontends')]);
      return known[0].json?.runners?.length === runners && known[1].json?.frontends?.length === frontends;
    });
  }

  async function deploy(tron: TestTron, name: string, content?: string): Promise<string> {
    const { status, text, json } = await tron.call('POST', '/v1/bundles', { body: await pack(name, content) });
    assert.ok(status === 201 || status === 200, text);
    return json.revision;
  }

  it('makes a bundle live on every runner and frontend before it answers 201', async () => {
    const tron = await cluster.tron();
    await Promise.all([cluster.runner('r1'), cluster.runner('r2')]);
    const frontend = await cluster.frontend('f1');
    await everybodyKnown(tron, 2, 1);
    const deployed = await tron.call('POST', '/v1/bundles', { body: await pack('orders') });
    assert.equal(deployed.status, 201, deployed.text);
    const { revision } = deployed.json;
    assert.deepEqual(deployed.json, {
      bundle: 'orders',
      revision,
      alias: 'live',
      operations: [{ operationId: 'getItem', method: 'GET', path: '/orders/items/{id}', http: true }],
      warnings: [],
    });
    const live = frontend.membership.snapshot?.bundles[0];
    assert.deepEqual(live?.weights, { [revision]: 100 });
    assert.equal(live.revisions[0]?.ready, 2);
    assert.deepEqual(live.revisions[0].runners, ['r1', 'r2']);
    assert.equal(live.revisions[0].phase, 'serving');
    assert.notEqual(await cluster.broker.probe('ev.orders'), undefined);
    const routes = await tron.call('GET', '/v1/routes');
    assert.deepEqual(routes.json.routes, [
      {
        bundle: 'orders',
        operationId: 'getItem',
        method: 'GET',
        path: '/orders/items/{id}',
        weights: { [revision]: 100 },
      },
    ]);
  });

  it('answers 200 when the revision was known, and changes nothing', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    const revision = await deploy(tron, 'orders');
    const before = await cluster.snapshot();
    const again = await tron.call('POST', '/v1/bundles', { body: await pack('orders') });
    assert.equal(again.status, 200);
    assert.equal(again.json.revision, revision);
    assert.equal((await cluster.snapshot()).epoch, before.epoch);
  });

  it('only stores a revision with live=false', async () => {
    const tron = await cluster.tron();
    const stored = await tron.call('POST', '/v1/bundles?live=false', { body: await pack('orders') });
    assert.equal(stored.status, 201);
    assert.equal(stored.json.alias, undefined);
    const { json } = await tron.call('GET', '/v1/bundles/orders');
    assert.deepEqual(json.live, {});
    assert.equal(json.revisions[0].phase, 'stored');
    assert.deepEqual((await cluster.snapshot()).bundles, []);
  });

  it('gives back the archive byte for byte', async () => {
    const tron = await cluster.tron();
    const archive = await pack('orders');
    const { json } = await tron.call('POST', '/v1/bundles?live=false', { body: archive });
    const url = `${tron.url}/v1/bundles/orders/revisions/${json.revision}/archive`;
    const response = await fetch(url, { headers: { authorization: `Bearer ${TOKEN}` } });
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), archive);
  });

  it('leaves the old revision serving when the new one fails on one runner, and says what the func said', async () => {
    const tron = await cluster.tron();
    let bad = '';
    await cluster.runner('r1');
    await cluster.runner('r2', {
      failing: ({ revision }) => (revision === bad ? 'init threw: no such table' : undefined),
    });
    const frontend = await cluster.frontend('f1');
    await everybodyKnown(tron, 2, 1);
    const good = await deploy(tron, 'orders', 'good');
    const archive = await pack('orders', 'bad');
    const stored = await tron.call('POST', '/v1/bundles?live=false', { body: archive });
    bad = stored.json.revision;
    const failed = await tron.call('POST', '/v1/bundles', { body: archive });
    assert.equal(failed.status, 422);
    assert.equal(failed.json.code, 'DEPLOY_FAILED');
    assert.match(failed.json.detail, /init threw: no such table/);
    assert.match(failed.json.hint, /mend the bundle/);
    assert.equal(failed.json.runner, 'r2');
    assert.deepEqual(frontend.membership.snapshot?.bundles[0]?.weights, { [good]: 100 });
    const { json } = await tron.call('GET', '/v1/bundles/orders');
    assert.equal(json.lastChange.error.code, 'DEPLOY_FAILED');
    assert.equal(json.change, undefined);
    bad = '';
    assert.equal((await tron.call('POST', '/v1/bundles', { body: archive })).status, 200);
  });

  it('takes the routes back when a frontend cannot load them', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    const frontend = await cluster.frontend('f1');
    await everybodyKnown(tron, 1, 1);
    const good = await deploy(tron, 'orders', 'good');
    frontend.failures = { orders: 'the record cannot be read' };
    const failed = await tron.call('POST', '/v1/bundles', { body: await pack('orders', 'bad') });
    assert.equal(failed.json.code, 'DEPLOY_FAILED');
    assert.match(failed.json.detail, /the record cannot be read/);
    assert.deepEqual((await cluster.snapshot()).bundles[0]?.weights, { [good]: 100 });
  });

  it('gives up on a member that never follows, and names it', async () => {
    const tron = await cluster.tron({ deployTimeoutMs: 1_000 });
    const runner = await cluster.runner('r1');
    const frontend = await cluster.frontend('f1');
    await everybodyKnown(tron, 1, 1);
    frontend.isStuck = true;
    const late = await tron.call('POST', '/v1/bundles', { body: await pack('orders') });
    assert.equal(late.json.code, 'DEPLOY_FAILED');
    assert.deepEqual(late.json.frontends, ['f1']);
    frontend.isStuck = false;
    runner.isStuck = true;
    const unloaded = await tron.call('POST', '/v1/bundles', { body: await pack('orders', '2') });
    assert.equal(unloaded.json.code, 'DEPLOY_FAILED');
    assert.deepEqual(unloaded.json.runners, ['r1']);
  });

  it('answers 409 DEPLOY_IN_PROGRESS to a second change of the same bundle', async () => {
    const tron = await cluster.tron();
    const runner = await cluster.runner('r1');
    await everybodyKnown(tron, 1, 0);
    runner.isStuck = true;
    const first = tron.call('POST', '/v1/bundles', { body: await pack('orders', '1') });
    await until('the first is under way', async () => {
      const { json } = await tron.call('GET', '/v1/bundles/orders');
      return json.change?.phase === 'loading';
    });
    const second = await tron.call('POST', '/v1/bundles', { body: await pack('orders', '2') });
    assert.equal(second.status, 409);
    assert.equal(second.json.code, 'DEPLOY_IN_PROGRESS');
    assert.equal((await tron.call('DELETE', '/v1/bundles/orders')).json.code, 'DEPLOY_IN_PROGRESS');
    runner.isStuck = false;
    assert.equal((await first).status, 201);
  });

  it('answers 409 ROUTE_CONFLICT to a bundle whose route another one has', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    await deploy(tron, 'orders');
    const taken = await tron.call('POST', '/v1/bundles', { body: await pack('shop', '1', '/orders') });
    assert.equal(taken.status, 409);
    assert.equal(taken.json.code, 'ROUTE_CONFLICT');
    assert.match(taken.json.detail, /orders already answers GET any-host\/orders\/items\/\{\}/);
    assert.equal((await tron.call('GET', '/v1/bundles/shop')).status, 404);
    assert.equal((await tron.call('DELETE', '/v1/bundles/orders')).status, 204);
    assert.equal((await tron.call('POST', '/v1/bundles', { body: await pack('shop', '1', '/orders') })).status, 201);
  });

  for (const [error, hint] of [
    [{ code: 'WEAK_ISOLATION', message: 'no walls', hint: 'run on another Node' }, 'run on another Node'],
    [{ code: 'STORE_DOWN', message: 'no store' }, 'look at the log of runner r1'],
  ] as const) {
    it(`does not send the author to mend a bundle when a runner fails it with ${error.code}`, async () => {
      const tron = await cluster.tron();
      await cluster.runner('r1', { failing: () => error });
      const { json } = await tron.call('POST', '/v1/bundles', { body: await pack('orders') });
      assert.equal(json.code, 'DEPLOY_FAILED');
      assert.equal(json.hint, hint);
      assert.deepEqual(json.error, { code: error.code, message: error.message });
    });
  }

  it('answers 503 NO_RUNNER with a hint when no runner comes', async () => {
    const tron = await cluster.tron();
    const refused = await tron.call('POST', '/v1/bundles', { body: await pack('orders') });
    assert.equal(refused.status, 503);
    assert.equal(refused.json.code, 'NO_RUNNER');
    assert.match(refused.json.hint, /funcatron runner/);
    assert.equal(refused.headers.get('retry-after'), '5');
  });

  it('waits for a runner that starts after the deploy', async () => {
    const tron = await cluster.tron();
    const deploying = tron.call('POST', '/v1/bundles', { body: await pack('orders') });
    await until('it waits', async () => (await cluster.snapshot()).bundles.length === 1);
    await cluster.runner('r1');
    assert.equal((await deploying).status, 201);
  });

  it('drains the old revision, lets go of it when nobody has a call of it, and deletes its queue', async () => {
    const tron = await cluster.tron();
    const runner = await cluster.runner('r1');
    const frontend = await cluster.frontend('f1');
    await everybodyKnown(tron, 1, 1);
    const old = await deploy(tron, 'orders', '1');
    await cluster.broker.declare({ queues: [callQueue('orders', old)] });
    frontend.inFlight = { [`orders@${old}`]: 3 };
    runner.inFlight = { [`orders@${old}`]: 1 };
    const fresh = await deploy(tron, 'orders', '2');
    const phases = async (): Promise<Record<string, string>> =>
      Object.fromEntries(
        (await cluster.snapshot()).bundles[0]?.revisions.map((each) => [each.revision, each.phase]) ?? [],
      );
    assert.deepEqual(await phases(), { [old]: 'draining', [fresh]: 'serving' });
    frontend.inFlight = {};
    const { epoch } = await cluster.snapshot();
    // Two reports later it is still there: the runner has not ended.
    await until(
      'the frontend reported',
      async () => (await tron.call('GET', '/v1/frontends')).json.frontends[0].inFlight === 0,
    );
    assert.deepEqual(await phases(), { [old]: 'draining', [fresh]: 'serving' });
    assert.equal((await cluster.snapshot()).epoch, epoch);
    runner.inFlight = {};
    await until('it is let go', async () => !(old in (await phases())));
    await until(
      'its queue is deleted',
      async () => (await cluster.broker.probe(callQueue('orders', old).name)) === undefined,
    );
  });

  it('keeps a drained revision as long as its queue holds messages', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    const old = await deploy(tron, 'orders', '1');
    const queue = callQueue('orders', old);
    await cluster.broker.declare({ queues: [queue] });
    await cluster.broker.publish({ exchange: '', routingKey: queue.name, body: Buffer.from('call'), properties: {} });
    await deploy(tron, 'orders', '2');
    const held = async (): Promise<boolean> =>
      (await cluster.snapshot()).bundles[0]?.revisions.some(({ revision }) => revision === old) === true;
    const silent = async (): Promise<number> => (await tron.call('GET', '/v1/runners')).json.runners[0].silentMs;
    const before = await silent();
    await until('it reported again', async () => (await silent()) < before || (await silent()) > before);
    assert.equal(await held(), true);
    await cluster.broker.take(queue.name);
    await until('it is let go', async () => !(await held()));
  });

  it('rolls back to what was live before, one step further each time', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    const [first, second] = [await deploy(tron, 'orders', '1'), await deploy(tron, 'orders', '2')];
    await deploy(tron, 'orders', '3');
    const back = await tron.call('POST', '/v1/bundles/orders/rollback');
    assert.deepEqual(back.json, { bundle: 'orders', alias: 'live', weights: { [second]: 100 } });
    assert.deepEqual((await tron.call('POST', '/v1/bundles/orders/rollback')).json.weights, { [first]: 100 });
    assert.deepEqual((await cluster.snapshot()).bundles[0]?.weights, { [first]: 100 });
    const none = await tron.call('POST', '/v1/bundles/orders/rollback');
    assert.equal(none.status, 404);
  });

  it('sets weights, refuses unknown revisions and no weight at all', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    const [first, second] = [await deploy(tron, 'orders', '1'), await deploy(tron, 'orders', '2')];
    const put = (weights: unknown) => tron.call('PUT', '/v1/bundles/orders/aliases/live', { body: { weights } });
    assert.equal((await put({ [first]: 90, [second]: 10 })).status, 200);
    assert.deepEqual((await cluster.snapshot()).bundles[0]?.weights, { [first]: 90, [second]: 10 });
    assert.equal((await put({ '000000000000': 1 })).json.code, 'NOT_FOUND');
    assert.equal((await put({ [first]: 0 })).json.code, 'INVALID_REQUEST');
    const bad = await put({ [first]: -1, [second]: 'half' });
    assert.equal(bad.status, 400);
    assert.deepEqual(
      bad.json.problems.map(({ pointer }: { pointer: string }) => pointer).sort(),
      [`/body/weights/${first}`, `/body/weights/${second}`].sort(),
    );
    const other = await tron.call('PUT', '/v1/bundles/orders/aliases/beta', { body: { weights: { [first]: 1 } } });
    assert.equal(other.json.code, 'INVALID_REQUEST');
  });

  it('scales workers', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    await deploy(tron, 'orders');
    const scaled = await tron.call('PUT', '/v1/bundles/orders/scale', { body: { min: 2, max: 4 } });
    assert.deepEqual(scaled.json, { min: 2, max: 4 });
    assert.deepEqual((await cluster.snapshot()).bundles[0]?.revisions[0]?.workers, { min: 2, max: 4 });
    assert.equal((await tron.call('PUT', '/v1/bundles/orders/scale', { body: { min: 5, max: 4 } })).status, 400);
    assert.equal((await tron.call('PUT', '/v1/bundles/none/scale', { body: { min: 1, max: 1 } })).status, 404);
  });

  it('removes a bundle, keeps its events unless told to purge, and takes its name again', async () => {
    const tron = await cluster.tron();
    await cluster.runner('r1');
    await deploy(tron, 'orders');
    assert.equal((await tron.call('DELETE', '/v1/bundles/orders')).status, 204);
    assert.deepEqual((await tron.call('GET', '/v1/bundles')).json, { bundles: [] });
    assert.deepEqual(await cluster.store.keys('bundle/'), []);
    assert.notEqual(await cluster.broker.probe('ev.orders'), undefined);
    const event = { exchange: 'funcatron.call', routingKey: 'orders.get', body: Buffer.from('{}'), properties: {} };
    assert.equal(await cluster.broker.publish({ ...event, mandatory: true }), 'accepted');
    assert.equal((await cluster.broker.probe('ev.orders'))?.messages, 0, 'nobody would read it there');
    await deploy(tron, 'orders');
    assert.equal(await cluster.broker.publish({ ...event, mandatory: true }), 'accepted');
    assert.equal((await cluster.broker.probe('ev.orders'))?.messages, 1);
    await cluster.store.set('kv/orders/a', '1');
    assert.equal((await tron.call('DELETE', '/v1/bundles/orders?purge=true')).status, 204);
    assert.equal(await cluster.broker.probe('ev.orders'), undefined);
    assert.equal(await cluster.broker.probe('dead.orders'), undefined);
    assert.deepEqual(await cluster.store.keys('kv/orders/'), []);
    assert.equal((await tron.call('DELETE', '/v1/bundles/orders')).json.code, 'NOT_FOUND');
  });

  it('moves assignments away from a runner that is silent, and at once from one that stops', async () => {
    const tron = await cluster.tron();
    const [silent, leaving] = await Promise.all([cluster.runner('r1'), cluster.runner('r2'), cluster.runner('r3')]);
    await everybodyKnown(tron, 3, 0);
    await deploy(tron, 'orders');
    const runners = async (): Promise<readonly string[]> =>
      (await cluster.snapshot()).bundles[0]?.revisions[0]?.runners ?? [];
    assert.deepEqual(await runners(), ['r1', 'r2', 'r3']);
    await leaving.close();
    await until('the leaving one is dropped', async () => (await runners()).length === 2);
    await silent.vanish();
    await until('the silent one is dropped', async () => (await runners()).length === 1);
    assert.deepEqual(await runners(), ['r3']);
    assert.equal((await cluster.snapshot()).bundles[0]?.revisions[0]?.ready, 1);
  });

  it('sends the snapshot to members that start later, and again to stale ones', async () => {
    const tron = await cluster.tron({ snapshotMs: 60_000 });
    await cluster.runner('r1');
    const revision = await deploy(tron, 'orders');
    const frontend = await cluster.frontend('late');
    await until('it has it', () => frontend.membership.snapshot?.bundles[0]?.weights[revision] === 100);
    frontend.isStuck = true;
    const heard: string[] = [];
    await cluster.broker.declare(listenerTopology(stateExchange, 'spy', [''], 100));
    await cluster.broker.consume(listenerQueue(stateExchange.name, 'spy'), {}, ({ body }) => {
      heard.push((JSON.parse(body.toString()) as Snapshot).epoch);
    });
    await tron.call('PUT', '/v1/bundles/orders/scale', { body: { min: 2, max: 2 } });
    const { epoch } = await cluster.snapshot();
    await until('the newest was sent again', () => heard.filter((each) => each === epoch).length > 2);
    frontend.isStuck = false;
    await until('it reports the newest epoch', async () => {
      const { json } = await tron.call('GET', '/v1/frontends');
      return json.frontends[0]?.epoch === epoch;
    });
  });
}
