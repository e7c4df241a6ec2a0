import { measureThroughput } from '../measures/throughput.ts';
import { type Section, verdict } from '../page.ts';

export const throughput: Section = async ({ say }, isQuick) => {
  const rows = await measureThroughput(64, isQuick ? 3 : 5, isQuick ? 3 : 5);
  const of = (name: string): number => rows.find((row) => row.name.startsWith(name))?.callsPerS ?? Number.NaN;
  say();
  say('## 64 connections');
  say();
  say('| | calls/s | p50 ms | p99 ms | errors | CPU µs per call |');
  say('|---|--:|--:|--:|--:|---|');
  for (const row of rows) {
    const cpu = Object.entries(row.cpuUs).map(([name, us]) => `${name} ${us.toFixed(0)}`);
    say(
      `| ${row.name} | ${row.callsPerS.toFixed(0)} | ${row.p50Ms.toFixed(2)} | ${row.p99Ms.toFixed(2)} | ${row.errors} | ${cpu.join(', ')} |`,
    );
  }
  say();
  const ratio = of('funcatron') / of('moleculer');
  say(
    `funcatron / Moleculer: **${ratio.toFixed(2)}** (must be ≥ 2: ${verdict(ratio >= 2)}); funcatron / bare node:http: ${(of('funcatron') / of('bare')).toFixed(2)}`,
  );
};
