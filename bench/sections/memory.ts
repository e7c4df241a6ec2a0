import { measureMemory } from '../measures/memory.ts';
import { type Section, verdict } from '../page.ts';

export const memory: Section = async ({ say, table }, isQuick) => {
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
      'must be ≤ 1',
      'hot bundle: more on the runner, MB',
      'worker of `process`, one of those hot, MB',
      'must be ≤ 50',
    ],
    rows.map(({ bundle, deployed, idleBundleMb, hotBundleMb, workerMb }) => [
      bundle,
      deployed,
      idleBundleMb,
      deployed === 1 ? '' : verdict(idleBundleMb <= 1),
      hotBundleMb,
      workerMb,
      verdict(workerMb <= 50),
    ]),
  );
};
