import assert from 'node:assert/strict';
import { until } from '../helpers/until.ts';
import { describeBombs } from './bombs-suite.ts';

describeBombs('thread', (range) => {
  it('take calls of the neighbour along: what may run again does so once, in a fresh worker, the rest is FUNC_CRASHED', async () => {
    const { cluster, bomb, neighbour, instanceOf } = range();
    const before = await instanceOf(neighbour);
    const again = cluster.call(neighbour, 'wait', { timeoutMs: 60_000, mayRerun: true });
    const once = cluster.call(neighbour, 'wait', { timeoutMs: 60_000 });
    await until('both run', () => cluster.held('r1', neighbour)?.inFlight === 2);
    assert.equal((await cluster.call(bomb, 'loopBuiltin', { timeoutMs: 1_000 })).code, 'TIMEOUT');
    assert.deepEqual(await once.then(({ status, code }) => [status, code]), [502, 'FUNC_CRASHED']);
    const { status, body } = await again;
    assert.equal(status, 200, body);
    assert.notEqual(body, before);
    assert.equal(await instanceOf(neighbour), body);
  });

  it('hold the ends of their process against no neighbour that answers: it is never in quarantine', async () => {
    const { cluster, bomb, neighbour, instanceOf } = range();
    const workers = new Set<string>();
    const bombs = ['loopBuiltin', ...Array.from({ length: 5 }, () => 'hugeString')];
    for (const operationId of bombs) {
      workers.add(await instanceOf(neighbour));
      const { code, body } = await cluster.call(bomb, operationId, { timeoutMs: 1_500 });
      assert.ok(['TIMEOUT', 'FUNC_CRASHED'].includes(code ?? ''), body);
    }
    await instanceOf(neighbour);
    assert.equal(workers.size, bombs.length);
    assert.equal(cluster.hasFailed('r1', neighbour), false);
  });

  it('crash after every start: their bundle gets into quarantine, and the neighbour serves again', async () => {
    const { cluster, bomb, neighbour, outsider, instanceOf } = range();
    const crashing = await cluster.add(
      'crashing',
      `exports.run = () => 1; exports.init = () => { setTimeout(() => 'x'.repeat(2 ** 29 - 25).replaceAll('x', 'yz'), 50); };`,
      ['run'],
      { isolation: 'thread', memoryMb: 64, workers: { min: 1, max: 1 } },
    );
    await cluster.hold(['r1'], bomb, neighbour, outsider, crashing);
    await until('it is in quarantine', () => cluster.held('r1', crashing)?.state === 'failed', 40_000);
    await cluster.hold(['r1'], bomb, neighbour, outsider);
    await until('it is dropped', () => cluster.held('r1', crashing) === undefined);
    await instanceOf(neighbour);
  });
});
