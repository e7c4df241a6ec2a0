import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { until } from '../helpers/until.ts';
import {
  type BombCluster,
  childrenOf,
  type Deployed,
  isAlive,
  openBombCluster,
  peakMb,
} from '../fixtures/bombs/runner.ts';

const source = readFileSync(join(import.meta.dirname, '../fixtures/bombs/bombs.cjs'), 'utf8');
const exported = [...source.matchAll(/^exports\.(\w+) = /gm)].flatMap(([, name]) => (name === undefined ? [] : [name]));
const neighbourSource = `
  const instance = crypto.randomUUID();
  exports.instance = () => instance;`;

/** What may become of the call of a bomb, by what it does: its worker is replaced, or lives on. */
interface Bomb {
  readonly codes: readonly (string | undefined)[];
  readonly isReplaced: boolean | 'maybe';
  readonly timeoutMs?: number;
}

const BLOCKS: Bomb = { codes: ['TIMEOUT'], isReplaced: true, timeoutMs: 400 };
/** Its memory may be refused it, end it, or last until the deadline on a slow machine. */
const EATS: Bomb = { codes: ['FUNC_CRASHED', 'FUNC_ERROR', 'TIMEOUT'], isReplaced: 'maybe' };
const TOO_MUCH: Bomb = { codes: ['FUNC_CRASHED', 'FUNC_ERROR', 'RESPONSE_TOO_LARGE', 'TIMEOUT'], isReplaced: 'maybe' };

const bombs: Readonly<Record<string, Bomb>> = {
  loopSync: BLOCKS,
  loopAsync: BLOCKS,
  loopMicrotasks: BLOCKS,
  loopTicks: BLOCKS,
  loopRegex: BLOCKS,
  loopSort: BLOCKS,
  loopNormalize: BLOCKS,
  loopFill: BLOCKS,
  loopBigInt: BLOCKS,
  loopFinally: BLOCKS,
  loopGetter: BLOCKS,
  loopToJson: BLOCKS,
  loopThen: BLOCKS,
  loopProxy: BLOCKS,
  loopThrown: BLOCKS,
  loopTimers: BLOCKS,
  loopAbort: BLOCKS,
  neverSettles: BLOCKS,
  timerFlood: BLOCKS,
  immediateFlood: BLOCKS,
  fetchFlood: BLOCKS,
  fetchAbortFlood: BLOCKS,
  operationFlood: BLOCKS,
  logFlood: BLOCKS,
  logUnicodeFlood: BLOCKS,
  rejectionFlood: BLOCKS,
  heap: EATS,
  heapAsync: EATS,
  mapGrowth: EATS,
  setGrowth: EATS,
  bigArray: EATS,
  buffers: EATS,
  resizable: EATS,
  strings: EATS,
  hugeString: EATS,
  jsonParse: EATS,
  jsonDeep: EATS,
  throwHuge: EATS,
  reply300: TOO_MUCH,
  reply300Json: TOO_MUCH,
  reply300Bytes: TOO_MUCH,
  recursion: { codes: ['FUNC_ERROR'], isReplaced: false },
  recursionAsync: { codes: ['FUNC_ERROR', 'FUNC_CRASHED'], isReplaced: 'maybe' },
  recursionJson: { codes: ['INVALID_RESPONSE', undefined], isReplaced: false },
  timersBeyond: { codes: ['FUNC_ERROR'], isReplaced: false },
};

/** Most memory a runner may ever have had after all of it, beside what it loads: an idle one has about 110 MB. */
const RUNNER_PEAK_MB = 400;

describe('bombs in a bundle, in a runner as a process over RabbitMQ', function () {
  this.timeout(60_000);
  const rabbit = useRabbit();
  let cluster: BombCluster;
  let bomb: Deployed;
  let neighbour: Deployed;
  let neighbourInstance: string;

  async function instanceOf(deployed: Deployed): Promise<string> {
    const { status, body } = await cluster.call(deployed, 'instance', { mayRerun: true });
    assert.equal(status, 200, body);
    return body;
  }

  /** Calls the neighbour, one call after the other, until `promise` settles: the same worker answers them all. */
  async function besideNeighbour<T>(promise: Promise<T>): Promise<T> {
    const over = new AbortController();
    const outcome = promise.finally(() => over.abort());
    do assert.equal(await instanceOf(neighbour), neighbourInstance);
    while (!over.signal.aborted);
    return await outcome;
  }

  before(async () => {
    cluster = await openBombCluster(rabbit.url());
    const manifest = { memoryMb: 64, workers: { min: 1, max: 1 } };
    bomb = await cluster.add('bomb', source, exported, { ...manifest, services: { kv: { type: 'kv' } } });
    neighbour = await cluster.add('neighbour', neighbourSource, ['instance'], manifest);
    await cluster.hold(['r1'], bomb, neighbour);
    await cluster.start('r1');
    await until('both are held', () =>
      [bomb, neighbour].every((deployed) => cluster.held('r1', deployed)?.state === 'ready'),
    );
    neighbourInstance = await instanceOf(neighbour);
  });

  after(async () => {
    await cluster.close();
  });

  it('are all tried', () => {
    assert.deepEqual(
      Object.keys(bombs).toSorted(),
      exported.filter((name) => !['instance', 'exits', 'logBurst', 'loopAfterwards'].includes(name)).toSorted(),
    );
  });

  for (const [operationId, { codes, isReplaced, timeoutMs = 5_000 }] of Object.entries(bombs)) {
    const expected = codes.map((code) => code ?? 'success').join(' or ');
    it(`${operationId}: is answered ${expected}, and a worker serves again; the neighbour notices nothing`, async () => {
      const before = await instanceOf(bomb);
      const { code, body } = await besideNeighbour(cluster.call(bomb, operationId, { timeoutMs }));
      assert.ok(codes.includes(code), body);
      const afterwards = await besideNeighbour(instanceOf(bomb));
      if (isReplaced !== 'maybe') assert.equal(afterwards !== before, isReplaced);
    });
  }

  it('take their mates along no further than into the next worker, once', async () => {
    const loop = cluster.call(bomb, 'loopSync', { timeoutMs: 500 });
    const again = cluster.call(bomb, 'instance', { mayRerun: true });
    const once = cluster.call(bomb, 'instance');
    assert.equal((await loop).code, 'TIMEOUT');
    assert.equal((await again).status, 200);
    // Which of the two came first into the worker, the broker says.
    assert.ok(['FUNC_CRASHED', undefined].includes((await once).code));
  });

  it('find no way to process.exit, nor to the process', async () => {
    const before = await instanceOf(bomb);
    const { status, body } = await cluster.call(bomb, 'exits');
    assert.equal(status, 200, body);
    assert.deepEqual(JSON.parse(body), []);
    assert.equal(await instanceOf(bomb), before);
  });

  it('lose lines and not their worker when they log more at once than a frame carries', async () => {
    const before = await instanceOf(bomb);
    assert.equal((await cluster.call(bomb, 'logBurst')).body, 'done');
    assert.equal(await instanceOf(bomb), before);
    await until('the loss is told', async () => {
      await cluster.call(bomb, 'recursion'); // its error is one more line
      return cluster.lines(bomb).some(({ dropped = 0 }) => dropped >= 500);
    });
  });

  it('loop after their reply, without a call whose deadline could end it: their worker is replaced all the same', async () => {
    const { body } = await cluster.call(bomb, 'loopAfterwards');
    assert.equal(body, 'done');
    const children = childrenOf(cluster.pid('r1'));
    await besideNeighbour(until('a worker is gone', () => children.some((child) => !isAlive(child)), 20_000));
    await instanceOf(bomb);
  });

  it('loop in destroy: their worker is gone a little later, and the rest serves on', async () => {
    const looping = await cluster.add(
      'loops-in-destroy',
      'exports.run = () => 1; exports.destroy = () => { for (;;); };',
      ['run'],
    );
    const pid = cluster.pid('r1');
    await cluster.hold(['r1'], bomb, neighbour, looping);
    await besideNeighbour(until('it is held', () => cluster.held('r1', looping)?.state === 'ready'));
    const children = childrenOf(pid);
    await cluster.hold(['r1'], bomb, neighbour);
    await besideNeighbour(until('it is dropped', () => cluster.held('r1', looping) === undefined));
    await besideNeighbour(until('a worker less', () => children.some((child) => !isAlive(child))));
  });

  it('loop in init: it does not come up, says so, and no worker of it goes on; the rest serves on', async () => {
    const looping = await cluster.add('loops-in-init', 'exports.run = () => 1; exports.init = () => { for (;;); };', [
      'run',
    ]);
    await cluster.hold(['r1'], bomb, neighbour, looping);
    await besideNeighbour(until('it failed', () => cluster.held('r1', looping)?.state === 'failed', 40_000));
    const held = cluster.held('r1', looping);
    assert.equal(held?.error?.code, 'DEPLOY_FAILED');
    assert.match(held?.error?.message ?? '', /longer than \d+ ms to start/);
    assert.ok((held?.retryAt ?? 0) > Date.now());
    await cluster.hold(['r1'], bomb, neighbour);
    await until('it is dropped', () => cluster.held('r1', looping) === undefined);
  });

  it('have all been answered exactly once, and the runner has kept little of them', () => {
    const counts = cluster.answerCounts();
    assert.ok(counts.length > 2 * Object.keys(bombs).length);
    assert.ok(counts.every((count) => count === 1));
    const peak = peakMb(cluster.pid('r1'));
    assert.ok(peak < RUNNER_PEAK_MB, `${peak} MB`);
  });
});

describe('a runner that is killed while bombs explode in it', function () {
  this.timeout(60_000);
  const rabbit = useRabbit();
  let cluster: BombCluster;

  afterEach(async () => {
    await cluster.close();
  });

  it('leaves nothing running', async () => {
    cluster = await openBombCluster(rabbit.url());
    const loops = ['loopSync', 'loopMicrotasks', 'loopRegex', 'loopNormalize', 'logFlood', 'timerFlood'];
    const workers = { min: loops.length, max: loops.length };
    const bomb = await cluster.add('bomb', source, exported, { concurrency: 1, memoryMb: 64, workers });
    await cluster.hold(['r1'], bomb);
    await cluster.start('r1');
    await until('all workers are there', () => cluster.held('r1', bomb)?.workers === loops.length, 30_000);
    for (const loop of loops) void cluster.call(bomb, loop, { timeoutMs: 120_000 });
    await until('all loop', () => cluster.held('r1', bomb)?.inFlight === loops.length);
    const children = childrenOf(cluster.pid('r1'));
    assert.ok(children.length >= loops.length);
    await cluster.end('r1', 'SIGKILL');
    await until('none is alive', () => !children.some(isAlive));
  });
});
