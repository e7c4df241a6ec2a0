import { measureMemory } from '../measures/memory.ts';
import { digits, type Section } from '../page.ts';

export const memory: Section = async ({ say, table, must }, isQuick) => {
  const rows = await measureMemory(isQuick ? [100] : [100, 1_000]);
  say();
  say('## Memory');
  say();
  say(
    'A runner with so many bundles of min 0, each of which has once had a worker, and 20 of them hot. On the runner: its heap and buffers after a collection, embedded broker and store included. A worker: proportional set size.',
  );
  table(
    [
      'bundle',
      'deployed',
      'idle bundle on the runner, MB',
      'hot bundle: more on the runner, MB',
      'worker of `process`, one of those hot, MB',
    ],
    rows.map(({ bundle, deployed, idleBundleMb, hotBundleMb, workerMb }) => [
      bundle,
      deployed,
      idleBundleMb,
      hotBundleMb,
      workerMb,
    ]),
  );
  for (const { bundle, deployed, idleBundleMb, workerMb } of rows) {
    const load = `${deployed} ${deployed === 1 ? 'bundle' : 'bundles'} of ${bundle}`;
    // With one there is no idle one.
    if (deployed > 1)
      must({ load, must: 'idle one ≤ 1 MB', found: `${digits(idleBundleMb)} MB`, isMet: idleBundleMb <= 1 });
    must({ load, must: 'hot worker ≤ 50 MB', found: `${digits(workerMb)} MB`, isMet: workerMb <= 50 });
  }
};
