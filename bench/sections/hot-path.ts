import type { LoadResult } from '../load.ts';
import { BARE, measureHotPath, OURS, type Point, type SubjectRow } from '../measures/hot-path.ts';
import { digits, type Page, type Section } from '../page.ts';

/** Longer where figures are compared with others than one's own. */
const POINTS: readonly Point[] = [
  { connections: 64, bodyBytes: 200, seconds: 5, rounds: 3 },
  { connections: 512, bodyBytes: 200, seconds: 3, rounds: 3 },
  { connections: 1, bodyBytes: 200, seconds: 2, rounds: 2 },
  { connections: 64, bodyBytes: 4_096, seconds: 2, rounds: 2 },
  { connections: 64, bodyBytes: 60_000, seconds: 2, rounds: 2 },
];

export const hotPath: Section = async (page, isQuick) => {
  const { say, table, must } = page;
  const points = isQuick ? POINTS.slice(0, 2).map((point) => ({ ...point, seconds: 2, rounds: 2 })) : POINTS;
  const { rows, openLoops } = await measureHotPath({ points, isShort: isQuick });
  const titles = points.map(({ connections, bodyBytes }) => `${connections} × ${bodyBytes} bytes`);
  say();
  say('## The hot path');
  say();
  say('Calls a second in a closed loop, by connections and body:');
  table(
    ['', ...titles],
    eachPoint(rows, ({ callsPerS }) => callsPerS),
  );
  say('Latency in ms, p50 / p99:');
  table(
    ['', ...titles],
    eachPoint(rows, ({ p50Ms, p99Ms }) => `${digits(p50Ms)} / ${digits(p99Ms)}`),
  );
  say('CPU time per call in µs, by process, and what was answered with an error of all calls:');
  table(['', titles[0] ?? '', 'errors'], rows.map(cpuRow));
  say(
    'At a fixed rate, half of what ours does at most (open loop; latency from the moment a call was meant to leave):',
  );
  table(
    ['', 'calls/s', 'p50 ms', 'p99 ms', 'longest ms', 'errors', 'the generator itself, p99 ms'],
    openLoops.map((row) => [
      row.name,
      row.callsPerS,
      row.p50Ms,
      row.p99Ms,
      row.maxMs,
      row.errors,
      row.generatorLateP99Ms,
    ]),
  );
  atLeast(page, rows, '64 connections, RabbitMQ', OURS, 'Moleculer over RabbitMQ', 3);
  atLeast(page, rows, '64 connections, RabbitMQ', OURS, 'NestJS over RabbitMQ', 4);
  atLeast(page, rows, '64 connections, RabbitMQ', OURS, BARE, 0.27);
  atLeast(page, rows, '64 connections, embedded', 'funcatron embedded', 'Express', 0.5);
  const [at64, at512] = rows.find(({ name }) => name === OURS)?.loads ?? [];
  const kept = (at512?.callsPerS ?? Number.NaN) / (at64?.callsPerS ?? Number.NaN);
  const spread = (at512?.p99Ms ?? Number.NaN) / (at512?.p50Ms ?? Number.NaN);
  const load = '512 connections, RabbitMQ';
  must({ load, must: '≥ 0.9× its own at 64', found: `${kept.toFixed(2)}×`, isMet: kept >= 0.9 });
  must({ load, must: 'p99 ≤ 4× p50', found: `${spread.toFixed(1)}×`, isMet: spread <= 4 });
  const p99 = (name: string): number => openLoops.find((row) => row.name === name)?.p99Ms ?? Number.NaN;
  const late = p99(OURS) / p99(BARE);
  must({
    load: 'open loop at 50 % of its own maximum',
    must: 'p99 ≤ 5× bare node:http',
    found: `${late.toFixed(1)}×`,
    isMet: late <= 5,
  });
};

function eachPoint(rows: readonly SubjectRow[], cell: (load: LoadResult) => string | number): (string | number)[][] {
  return rows.map(({ name, loads }) => [name, ...loads.map(cell)]);
}

function cpuRow({ name, loads }: SubjectRow): (string | number)[] {
  const cpu = Object.entries(loads[0]?.cpuUs ?? {}).map(([role, us]) => `${role} ${digits(us)}`);
  return [name, cpu.join(', '), loads.reduce((sum, { errors }) => sum + errors, 0)];
}

/** At the first point. */
function atLeast(
  { must }: Page,
  rows: readonly SubjectRow[],
  load: string,
  ours: string,
  theirs: string,
  least: number,
): void {
  const of = (wanted: string): number => rows.find(({ name }) => name === wanted)?.loads[0]?.callsPerS ?? Number.NaN;
  const ratio = of(ours) / of(theirs);
  must({ load, must: `≥ ${least}× ${theirs}`, found: `${ratio.toFixed(2)}×`, isMet: ratio >= least });
}
