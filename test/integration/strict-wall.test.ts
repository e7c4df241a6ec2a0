import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { findWalls } from '../../runner/isolate/launch.ts';
import { findInside } from '../../runner/isolate/process.ts';
import { findAddon, hostProgram } from '../../runner/isolate/strict.ts';
import { findJail, probeWalls, refuseOpenWalls } from '../../runner/isolate/strict-walls.ts';

describe('the wall around a worker of strict', () => {
  before(() => execFileSync(process.execPath, ['tools/build-inside.mjs']));

  it('holds against an attacker with all of Node in the worker’s process', async () => {
    const walls = await findWalls();
    const jail = await findJail(walls);
    const results = await probeWalls(walls, findInside(), hostProgram(findAddon(), 64, jail()));
    assert.deepEqual(
      Object.entries(results).filter(([, outcome]) => !outcome.startsWith('blocked')),
      [],
    );
    assert.ok(Object.keys(results).length >= 25);
  });

  it('is found open by its probe where the namespaces and the other uid are missing', async () => {
    const walls = await findWalls();
    const results = await probeWalls(walls, findInside(), hostProgram(findAddon(), 64, []));
    assert.equal(results['killRunner'], 'open');
    await assert.rejects(refuseOpenWalls(Promise.resolve(results)), {
      code: 'WEAK_ISOLATION',
      message: /open: .*killRunner/,
    });
  });
});
