import { measureBundles } from '../measures/bundles.ts';
import type { Section } from '../page.ts';

export const bundles: Section = async ({ say, table, must }, isQuick) => {
  const plan = isQuick
    ? { counts: [1, 100], rounds: 2, seconds: 2 }
    : { counts: [1, 100, 1_000], rounds: 3, seconds: 3 };
  const rows = await measureBundles(plan);
  say();
  say('## Bundles deployed');
  say();
  say(
    '64 connections to one bundle of ten routes among so many, in turns with the same bundle deployed alone. Memory of the frontend (PSS) is held against that of the other one after the same loads, as it is (median of the rounds), which is what must be met, and when both have collected their garbage: the second is what the bundles need. Lookups go through all routes in turn.',
  );
  table(
    [
      'bundles',
      'calls/s',
      'alone',
      'ratio',
      'p99 ms',
      'errors',
      'route lookup µs',
      'frontend: more MB',
      'more MB, collected',
      'ms a deploy, 4 at once',
    ],
    rows.map(({ bundles: deployed, load, oneBundle, lookupUs, frontendMoreMb, heldMoreMb, deployMs }) => [
      deployed,
      load.callsPerS,
      oneBundle.callsPerS,
      load.callsPerS / oneBundle.callsPerS,
      load.p99Ms,
      load.errors,
      lookupUs,
      frontendMoreMb,
      heldMoreMb,
      deployMs,
    ]),
  );
  const most = rows.at(-1);
  if (most === undefined) return;
  const load = `${most.bundles} bundles × 10 routes`;
  const ratio = most.load.callsPerS / most.oneBundle.callsPerS;
  must({ load, must: '≥ 0.95× of one bundle', found: `${ratio.toFixed(2)}×`, isMet: ratio >= 0.95 });
  must({ load, must: 'lookup ≤ 2 µs', found: `${most.lookupUs.toFixed(2)} µs`, isMet: most.lookupUs <= 2 });
  const more = most.frontendMoreMb;
  must({ load, must: 'frontend ≤ 40 MB more', found: `${more.toFixed(1)} MB`, isMet: more <= 40 });
};
