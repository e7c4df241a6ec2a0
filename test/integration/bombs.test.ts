import assert from 'node:assert/strict';
import { childrenOf, isAlive } from '../fixtures/bombs/runner.ts';
import { until } from '../helpers/until.ts';
import { describeBombs } from './bombs-suite.ts';

// What ends a worker here is the same in every isolation: it is tried in the one whose workers are easiest to see.
describeBombs('process', (range) => {
  it('loop in destroy: their worker is gone a little later, and the rest serves on', async () => {
    const { cluster, bomb, neighbour, outsider, besideOthers } = range();
    const looping = await cluster.add(
      'loops-in-destroy',
      'exports.run = () => 1; exports.destroy = () => { for (;;); };',
      ['run'],
    );
    const pid = cluster.pid('r1');
    await cluster.hold(['r1'], bomb, neighbour, outsider, looping);
    await besideOthers(until('it is held', () => cluster.held('r1', looping)?.state === 'ready'));
    const children = childrenOf(pid);
    await cluster.hold(['r1'], bomb, neighbour, outsider);
    await besideOthers(until('it is dropped', () => cluster.held('r1', looping) === undefined));
    await besideOthers(until('a worker less', () => children.some((child) => !isAlive(child))));
  });

  it('loop in init, or after a reply with no call whose deadline could end it: the one does not come up and says so, the other is replaced; the rest serves on', async () => {
    const { cluster, bomb, neighbour, outsider, instanceOf, besideOthers } = range();
    const looping = await cluster.add('loops-in-init', 'exports.run = () => 1; exports.init = () => { for (;;); };', [
      'run',
    ]);
    await cluster.hold(['r1'], bomb, neighbour, outsider, looping);
    const before = await instanceOf(bomb);
    assert.equal((await cluster.call(bomb, 'loopAfterwards')).body, 'done');
    const restarts = cluster.held('r1', bomb)?.restarts ?? assert.fail();
    const isReplaced = (): boolean => (cluster.held('r1', bomb)?.restarts ?? 0) > restarts;
    await besideOthers(until('its worker is replaced', isReplaced, 20_000));
    assert.notEqual(await instanceOf(bomb), before);
    await besideOthers(until('it failed', () => cluster.held('r1', looping)?.state === 'failed', 40_000));
    const held = cluster.held('r1', looping);
    assert.equal(held?.error?.code, 'DEPLOY_FAILED');
    assert.match(held?.error?.message ?? '', /longer than \d+ ms to start/);
    assert.ok((held?.retryAt ?? 0) > Date.now());
    await cluster.hold(['r1'], bomb, neighbour, outsider);
    await until('it is dropped', () => cluster.held('r1', looping) === undefined);
  });
});
