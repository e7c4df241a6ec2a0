import { measureNeighbour } from '../measures/neighbour.ts';
import { type Section, verdict } from '../page.ts';

export const neighbour: Section = async ({ say, must }, isQuick) => {
  const { quiet, rows } = await measureNeighbour(isQuick ? 3 : 5);
  const limitMs = Math.max(3 * quiet.p99Ms, quiet.p99Ms + 25);
  say();
  say('## A neighbour at 200 calls/s beside a bundle that misbehaves');
  say();
  say(
    `Its p99 alone: ${quiet.p99Ms.toFixed(1)} ms; beside a bomb it must be ≤ max(3 ×, + 25 ms) = ${limitMs.toFixed(1)} ms, with no call lost. A worker must be back ≤ 1 500 ms (grace 500 + 1 000) after the bomb's deadline or crash.`,
  );
  say();
  say(
    '| bomb | its calls end with | neighbour p50 ms | p99 ms | | errors | worker back after ms, median | slowest | |',
  );
  say('|---|---|--:|--:|---|--:|--:|--:|---|');
  say(`| none | | ${quiet.p50Ms.toFixed(1)} | ${quiet.p99Ms.toFixed(1)} | | ${quiet.errors} | | | |`);
  for (const row of rows) {
    const isFast = verdict(row.p99Ms <= limitMs && row.errors === 0);
    const isBack = verdict(row.slowestBackMs <= 1_500);
    say(
      `| ${row.bomb} | ${row.codes.join(', ')} | ${row.p50Ms.toFixed(1)} | ${row.p99Ms.toFixed(1)} | ${isFast} | ${row.errors} | ${row.backAfterMs.toFixed(0)} | ${row.slowestBackMs.toFixed(0)} | ${isBack} |`,
    );
  }
  const lost = rows.reduce((sum, { errors }) => sum + errors, 0);
  const worst = rows.toSorted((a, b) => b.p99Ms - a.p99Ms)[0];
  const last = rows.toSorted((a, b) => b.slowestBackMs - a.slowestBackMs)[0];
  const load = `a neighbour beside ${rows.length} bombs`;
  must({
    load,
    must: `p99 ≤ ${limitMs.toFixed(1)} ms, no call lost`,
    found: `${worst?.p99Ms.toFixed(1)} ms (${worst?.bomb}), ${lost} lost`,
    isMet: (worst?.p99Ms ?? Infinity) <= limitMs && lost === 0,
  });
  must({
    load,
    must: 'worker back ≤ 1 500 ms',
    found: `${last?.slowestBackMs.toFixed(0)} ms (${last?.bomb})`,
    isMet: (last?.slowestBackMs ?? Infinity) <= 1_500,
  });
};
