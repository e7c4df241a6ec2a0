import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Homes, PLACES } from '../../../runner/runtimes/homes.ts';
import { silentLog } from '../../contract/isolate-harness.ts';

describe('runner/runtimes/homes', () => {
  const user = { uid: 1_879_199_999, gid: 1_879_199_999 };
  let folder = '';
  let homes = new Homes(silentLog);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'funcatron-homes-'));
    mkdirSync(join(folder, 'a/lib'), { recursive: true });
    writeFileSync(join(folder, 'a/lib/data'), 'data', { mode: 0o400 });
    writeFileSync(join(folder, 'a/run'), '#!/bin/sh', { mode: 0o500 });
    homes = new Homes(silentLog);
  });
  afterEach(async () => {
    await homes.close();
    rmSync(folder, { recursive: true });
  });

  const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

  it('lays a bundle out for its user alone, who can change nothing, whatever the umask', async function () {
    if (process.getuid?.() !== 0) this.skip();
    const umask = process.umask(0o077);
    const home = await homes.open(join(folder, 'a'), () => user).finally(() => process.umask(umask));
    const lot = statSync(dirname(home.folder));
    assert.deepEqual([lot.uid, lot.gid, modeOf(dirname(home.folder))], [0, user.gid, '710']);
    for (const [name, mode] of [
      ['', '755'],
      ['lib', '755'],
      ['lib/data', '444'],
      ['run', '555'],
    ] as const) {
      const path = join(home.folder, name);
      assert.deepEqual([statSync(path).uid, modeOf(path)], [0, mode], path);
    }
    assert.equal(readFileSync(join(home.folder, 'lib/data'), 'utf8'), 'data');
    assert.deepEqual([statSync(home.own).uid, modeOf(home.own)], [user.uid, '700']);
  });

  it('gives workers of one bundle the same files and user, and each a folder of its own, gone with it', async function () {
    if (process.getuid?.() !== 0) this.skip();
    const [one, two] = await Promise.all([1, 2].map((uid) => homes.open(join(folder, 'a'), () => ({ uid, gid: uid }))));
    assert.deepEqual([one?.folder, one?.user], [two?.folder, two?.user]);
    assert.notEqual(one?.own, two?.own);
    await Promise.all([one?.close(), one?.close()]);
    assert.deepEqual([existsSync(one?.own ?? ''), existsSync(two?.own ?? '')], [false, true]);
  });

  it('leaves the files where they are when there are no users', async () => {
    const home = await homes.open(join(folder, 'a'), undefined);
    assert.deepEqual([home.folder, home.user], [join(folder, 'a'), undefined]);
  });

  it('forgets bundles without workers, the one used longest ago first, when there are many', async () => {
    const base = async (): Promise<string> => dirname(dirname((await homes.open(join(folder, 'kept'), undefined)).own));
    const lots = await base();
    for (let number = 0; number < 40; number++) await (await homes.open(join(folder, `${number}`), undefined)).close();
    assert.equal(readdirSync(lots).length, 32);
    assert.equal(await base(), lots);
  });

  it('removes what a runner left that was killed, and nothing of one that runs', async () => {
    const { pid } = spawnSync('/bin/true');
    const place = PLACES.at(-1) ?? '';
    const [left, alive] = [pid, process.ppid].map((owner) => mkdtempSync(join(place, `funcatron-programs-${owner}-`)));
    try {
      await homes.open(join(folder, 'a'), undefined);
      assert.deepEqual([existsSync(left ?? ''), existsSync(alive ?? '')], [false, true]);
    } finally {
      rmSync(alive ?? '', { recursive: true });
    }
  });

  it('is empty when it is closed', async () => {
    const { own } = await homes.open(join(folder, 'a'), undefined);
    await homes.close();
    assert.equal(existsSync(dirname(dirname(own))), false);
  });
});
