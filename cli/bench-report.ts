import type { Latencies } from './latencies.ts';
import type { Load, LoadOptions } from './load.ts';
import { formatTable } from './terminal.ts';

const SHARES = { p50: 0.5, p75: 0.75, p90: 0.9, p95: 0.95, p99: 0.99, 'p99.9': 0.999 } as const;
const BAR_CHARS = 40;
/** Steps of a decade: coarse where times are far apart, fine where they are not. */
const COARSE = [1, 2, 5];
const FINE = [1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8];
const FAR_APART = 30;
/** Rows for times of which a run had fewer than this share are at the ends only: one call that took long shall not make the picture small. */
const LAST_SHARE = 0.999;

/** Calls a second that were answered. */
function callsPerS(load: Load): number {
  return load.elapsedMs === 0 ? 0 : (load.answers * 1000) / load.elapsedMs;
}

/** Everything, for programs: times in ms. */
export function reportOf(load: Load, { url, method, connections, rate }: LoadOptions): object {
  return {
    url: url.href,
    method,
    connections,
    ...(rate === undefined ? {} : { rate }),
    seconds: round(load.elapsedMs / 1000),
    answers: load.answers,
    callsPerS: round(callsPerS(load)),
    bytes: load.bytes,
    statuses: Object.fromEntries(load.statuses),
    errors: Object.fromEntries(load.errors),
    unfinished: load.unfinished,
    unsent: load.unsent,
    latencyMs: timesOf(load.latencies),
    serverTimingMs: Object.fromEntries([...load.parts].map(([name, times]) => [name, timesOf(times)])),
  };
}

function timesOf(times: Latencies): Readonly<Record<string, number>> {
  return {
    min: round(times.leastMs),
    mean: round(times.meanMs),
    ...Object.fromEntries(Object.entries(SHARES).map(([name, share]) => [name, round(times.at(share))])),
    max: round(times.mostMs),
  };
}

/** Everything, for people. */
export function formatReport(load: Load, { url, method, connections, rate }: LoadOptions): string {
  const loop = rate === undefined ? 'each with its next call after its answer' : `${rate} calls a second`;
  const lines = [
    `${method} ${url.href}`,
    `${connections} connections, ${loop}, ${round(load.elapsedMs / 1000)} s`,
    '',
    `answers   ${load.answers}, ${callsPerS(load).toFixed(1)} a second, ${formatBytes(load.bytes)}`,
    ...sorted(load.statuses).map(([status, count]) => `  ${status}     ${count}`),
    ...sorted(load.errors).map(([failure, count]) => `  ${failure}  ${count}: the connection broke`),
    ...(load.unfinished > 0 ? [`no answer ${load.unfinished}: still under way at the end`] : []),
    ...(load.unsent > 0 ? [`not sent  ${load.unsent}: due, but the run ended before a connection was free`] : []),
  ];
  if (load.answers > 0) lines.push('', ...latencyLines(load.latencies));
  if (load.parts.size > 0) lines.push('', formatParts(load.parts));
  return lines.join('\n');
}

function latencyLines(times: Latencies): readonly string[] {
  const shares = Object.entries(SHARES).map(([name, share]) => `${name} ${formatMs(times.at(share))}`);
  return [
    `latency   ${shares.join('  ')}  max ${formatMs(times.mostMs)}`,
    ...histogramOf(times).map(
      ({ toMs, count, isRest }) =>
        `  ${isRest ? '>' : '≤'} ${formatMs(toMs).padStart(8)}  ${bar(count, times.count).padEnd(BAR_CHARS)}  ${count}`,
    ),
  ];
}

interface Row {
  readonly toMs: number;
  readonly count: number;
  /** All that is above. */
  readonly isRest: boolean;
}

function histogramOf(times: Latencies): readonly Row[] {
  const lastMs = times.at(LAST_SHARE);
  const steps = lastMs / Math.max(times.leastMs, 0.001) > FAR_APART ? COARSE : FINE;
  const rows: Row[] = [];
  let fromMs = -1;
  for (const toMs of edges(times.leastMs, steps)) {
    rows.push({ toMs, count: times.between(fromMs, toMs), isRest: false });
    fromMs = toMs;
    if (toMs >= lastMs) break;
  }
  const rest = times.between(fromMs, times.mostMs);
  return rest === 0 ? rows : [...rows, { toMs: fromMs, count: rest, isRest: true }];
}

/** Round numbers from the first one that is not below `leastMs` on. */
function* edges(leastMs: number, steps: readonly number[]): Generator<number> {
  for (let decade = Math.floor(Math.log10(Math.max(leastMs, 0.001))); ; decade++) {
    for (const step of steps) {
      const edge = step * 10 ** decade;
      if (edge >= leastMs) yield edge;
    }
  }
}

/** What the server said of its own time, with bars of the medians. */
function formatParts(parts: ReadonlyMap<string, Latencies>): string {
  const longest = Math.max(...[...parts.values()].map((times) => times.at(SHARES.p50)));
  const rows = [...parts].map(([name, times]) => {
    const median = times.at(SHARES.p50);
    return [name, formatMs(median), formatMs(times.at(SHARES.p99)), bar(median, longest)];
  });
  return formatTable(['server-timing', 'median', 'p99', ''], rows);
}

function bar(value: number, whole: number): string {
  const eighths = whole === 0 ? 0 : Math.round((value / whole) * BAR_CHARS * 8);
  const rest = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8] ?? '';
  return '█'.repeat(Math.floor(eighths / 8)) + (eighths === 0 && value > 0 ? '▏' : rest);
}

/** `0.42 ms`, `12.3 ms`, `1.25 s`. */
function formatMs(ms: number): string {
  if (ms >= 1_000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

function formatBytes(bytes: number): string {
  if (bytes < 10_240) return `${bytes} bytes`;
  if (bytes < 10 * 1024 * 1024) return `${Math.round(bytes / 1024)} KiB`;
  return `${Math.round(bytes / 1024 / 1024)} MiB`;
}

function sorted<K>(counts: ReadonlyMap<K, number>): readonly (readonly [K, number])[] {
  return [...counts].sort(([, left], [, right]) => right - left);
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
