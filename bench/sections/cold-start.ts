import { measureColdStart } from '../measures/cold-start.ts';
import type { Section } from '../page.ts';

export const coldStart: Section = async ({ say, must }, isQuick) => {
  say();
  say('## Cold start');
  say();
  say(
    'From the arrival of a call for a bundle without a worker, at a runner with a pool of 4, to the first line of its func; beside it processes that only adopt, compile and run the same text.',
  );
  say();
  say('| bundle | | p50 ms | p99 ms | bare p50 ms | bare p99 ms | p50 / bare p50 |');
  say('|---|---|--:|--:|--:|--:|--:|');
  for (const { bundle, way, coldMs, bareMs } of await measureColdStart(isQuick ? 2 : 5)) {
    const ratio = quantile(coldMs, 0.5) / quantile(bareMs, 0.5);
    const figures = [coldMs, bareMs].flatMap((samples) => [quantile(samples, 0.5), quantile(samples, 0.99)]);
    const found = ratio.toFixed(2);
    say(`| ${bundle} | ${way} | ${figures.map((ms) => ms.toFixed(1)).join(' | ')} | ${found} |`);
    must({ load: `cold start, ${bundle}, ${way}`, must: '≤ 3× bare', found: `${found}×`, isMet: ratio <= 3 });
  }
};

function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
