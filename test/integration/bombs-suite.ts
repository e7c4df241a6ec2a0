import assert from 'node:assert/strict';
import type { Isolation } from '../../core/bundle/manifest.ts';
import { bombs, exported, source } from '../fixtures/bombs/catalogue.ts';
import {
  type BombCluster,
  type Deployed,
  descendantsOf,
  isAlive,
  openBombCluster,
  peakMb,
} from '../fixtures/bombs/runner.ts';
import { useRabbit } from '../helpers/servers/rabbitmq.ts';
import { until } from '../helpers/until.ts';

/** `wait` never answers at its first attempt. */
const neighbourSource = `
  const instance = crypto.randomUUID();
  exports.instance = () => instance;
  exports.wait = ({ attempt }) => (attempt > 1 ? instance : new Promise(() => undefined));`;

/** Most memory a runner may ever have had after all of it, beside what it loads: an idle one has about 110 MB. */
const RUNNER_PEAK_MB = 400;

/** A runner with a bundle of bombs, and a neighbour in the same isolation. */
export interface BombRange {
  readonly cluster: BombCluster;
  readonly bomb: Deployed;
  readonly neighbour: Deployed;
  /** In a process of its own, whatever the isolation of the others. */
  readonly outsider: Deployed;
  /** Which worker of a bundle answers; its call may run again. */
  readonly instanceOf: (deployed: Deployed) => Promise<string>;
  /** Calls the neighbour and the outsider, one call after the other, until `promise` settles; asserts that no call of theirs is harmed but where the neighbour may be taken along. */
  readonly besideOthers: <T>(promise: Promise<T>, mayTakeNeighbour?: boolean) => Promise<T>;
}

/** Every bomb in a worker of this isolation, in a runner as a process over RabbitMQ; then what `more` adds. */
export function describeBombs(isolation: Isolation, more: (range: () => BombRange) => void = () => undefined): void {
  describe(`bombs in a bundle of the isolation ${isolation}, in a runner as a process over RabbitMQ`, function () {
    this.timeout(60_000);
    const rabbit = useRabbit();
    let range: BombRange;

    before(async () => {
      range = await openRange(rabbit.url(), isolation);
    });

    after(async () => {
      await range.cluster.close();
    });

    it('are all tried', () => {
      assert.deepEqual(
        Object.keys(bombs).toSorted(),
        exported.filter((name) => !['instance', 'exits', 'logBurst', 'loopAfterwards'].includes(name)).toSorted(),
      );
    });

    for (const [operationId, { codes, isReplaced, takesThreads, timeoutMs }] of Object.entries(bombs)) {
      const takes = isolation === 'thread' && takesThreads;
      const expected = codes.map((code) => code ?? 'success').join(' or ');
      const fate = takes === 'maybe' ? 'may lose its worker' : takes ? 'loses its worker' : 'notices nothing';
      it(`${operationId}: is answered ${expected}, and a worker serves again; the neighbour ${fate}`, async () => {
        const { cluster, bomb, neighbour, instanceOf, besideOthers } = range;
        const before = await instanceOf(bomb);
        const neighbourBefore = await instanceOf(neighbour);
        async function explode(ms: number): Promise<string> {
          const { code, body } = await besideOthers(
            cluster.call(bomb, operationId, { timeoutMs: ms }),
            takes !== false,
          );
          assert.ok(codes.includes(code), body);
          return await besideOthers(instanceOf(bomb), takes !== false);
        }
        let afterwards = await explode(timeoutMs);
        // A call whose deadline passed before it began, on a busy machine, has proved nothing.
        if (isReplaced === true && afterwards === before) afterwards = await explode(10 * timeoutMs);
        if (isReplaced !== 'maybe') assert.equal(afterwards !== before, isReplaced);
        const neighbourAfterwards = await instanceOf(neighbour);
        if (takes !== 'maybe') assert.equal(neighbourAfterwards !== neighbourBefore, takes);
      });
    }

    it('take their mates along no further than into the next worker, once', async () => {
      const { cluster, bomb } = range;
      const loop = cluster.call(bomb, 'loopSync', { timeoutMs: 500 });
      const again = cluster.call(bomb, 'instance', { mayRerun: true });
      const once = cluster.call(bomb, 'instance');
      assert.equal((await loop).code, 'TIMEOUT');
      assert.equal((await again).status, 200);
      // Which of the two came first into the worker, the broker says.
      assert.ok(['FUNC_CRASHED', undefined].includes((await once).code));
    });

    it('find no way to process.exit, nor to the process', async () => {
      const { cluster, bomb, instanceOf } = range;
      const before = await instanceOf(bomb);
      const { status, body } = await cluster.call(bomb, 'exits');
      assert.equal(status, 200, body);
      assert.deepEqual(JSON.parse(body), []);
      assert.equal(await instanceOf(bomb), before);
    });

    it('lose lines and not their worker when they log more at once than a frame carries', async () => {
      const { cluster, bomb, instanceOf } = range;
      const before = await instanceOf(bomb);
      assert.equal((await cluster.call(bomb, 'logBurst')).body, 'done');
      assert.equal(await instanceOf(bomb), before);
      await until('the loss is told', async () => {
        await cluster.call(bomb, 'recursion'); // its error is one more line
        return cluster.lines(bomb).some(({ dropped = 0 }) => dropped >= 500);
      });
    });

    more(() => range);

    it('have all been answered exactly once, and the runner has kept little of them', () => {
      const { cluster } = range;
      const counts = cluster.answerCounts();
      assert.ok(counts.length > 2 * Object.keys(bombs).length);
      assert.ok(counts.every((count) => count === 1));
      const peak = peakMb(cluster.pid('r1'));
      assert.ok(peak < RUNNER_PEAK_MB, `${peak} MB`);
    });
  });

  describe(`a runner that is killed while bombs explode in its workers of the isolation ${isolation}`, function () {
    this.timeout(60_000);
    const rabbit = useRabbit();
    let cluster: BombCluster;

    afterEach(async () => {
      await cluster.close();
    });

    it('leaves nothing running', async () => {
      cluster = await openBombCluster(rabbit.url());
      const loops = ['loopSync', 'loopMicrotasks', 'loopRegex', 'loopBuiltin', 'logFlood', 'timerFlood'];
      const workers = { min: loops.length, max: loops.length };
      const bomb = await cluster.add('bomb', source, exported, { isolation, concurrency: 1, memoryMb: 64, workers });
      await cluster.hold(['r1'], bomb);
      await cluster.start('r1');
      await until('all workers are there', () => cluster.held('r1', bomb)?.workers === loops.length, 30_000);
      for (const loop of loops) void cluster.call(bomb, loop, { timeoutMs: 120_000 });
      await until('all loop', () => cluster.held('r1', bomb)?.inFlight === loops.length);
      const pids = descendantsOf(cluster.pid('r1'));
      assert.ok(pids.length >= (isolation === 'thread' ? 1 : loops.length));
      await cluster.end('r1', 'SIGKILL');
      await until('none is alive', () => !pids.some(isAlive));
    });
  });
}

async function openRange(brokerUrl: string, isolation: Isolation): Promise<BombRange> {
  const cluster = await openBombCluster(brokerUrl);
  const manifest = { isolation, memoryMb: 64, workers: { min: 1, max: 1 } };
  const bomb = await cluster.add('bomb', source, exported, { ...manifest, services: { kv: { type: 'kv' } } });
  const neighbour = await cluster.add('neighbour', neighbourSource, ['instance', 'wait'], manifest);
  // Another text: another revision.
  const outsider = await cluster.add('outsider', `// outside${neighbourSource}`, ['instance', 'wait'], {
    ...manifest,
    isolation: 'process',
  });
  const all = [bomb, neighbour, outsider];
  await cluster.hold(['r1'], ...all);
  await cluster.start('r1');
  await until('all are held', () => all.every((deployed) => cluster.held('r1', deployed)?.state === 'ready'), 30_000);

  async function instanceOf(deployed: Deployed): Promise<string> {
    const { status, body } = await cluster.call(deployed, 'instance', { mayRerun: true });
    assert.equal(status, 200, body);
    return body;
  }
  const outside = await instanceOf(outsider);

  return {
    cluster,
    bomb,
    neighbour,
    outsider,
    instanceOf,
    async besideOthers(promise, mayTakeNeighbour = false) {
      const neighbourBefore = await instanceOf(neighbour);
      const over = new AbortController();
      const outcome = promise.finally(() => over.abort());
      do {
        const [again, once, outsiders] = await Promise.all([
          instanceOf(neighbour),
          cluster.call(neighbour, 'instance'),
          instanceOf(outsider),
        ]);
        assert.equal(outsiders, outside);
        if (mayTakeNeighbour) assert.ok([undefined, 'FUNC_CRASHED'].includes(once.code), once.body);
        else assert.deepEqual([again, once.body], [neighbourBefore, neighbourBefore]);
      } while (!over.signal.aborted);
      return await outcome;
    },
  };
}
