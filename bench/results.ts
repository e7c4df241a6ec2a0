import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createPage, digits, verdict } from './page.ts';
import { root } from './processes.ts';
import type { SectionOutcome } from './run-section.ts';

/** What a section has written, and when and of what. */
export interface SectionResult extends SectionOutcome {
  /** ISO 8601. */
  readonly beganAt: string;
  readonly commit: string;
  /** The machine's, of the minute before. */
  readonly loadBefore: number;
  readonly seconds: number;
}

/** By name of the section. */
export type Results = Readonly<Record<string, SectionResult>>;

const DATA = join(root, 'bench/results.json');
const PAGE = join(root, 'bench/results.md');

/** Those of the last full run and of what was measured again since; none where there was no such run. */
export function readResults(): Results {
  if (!existsSync(DATA)) return {};
  return JSON.parse(readFileSync(DATA, 'utf8')) as Results;
}

/** Into `bench/results.json`, and as a page into `bench/results.md`. */
export function writeResults(results: Results, page: string): void {
  writeFileSync(DATA, `${JSON.stringify(results, undefined, 2)}\n`);
  writeFileSync(PAGE, page);
}

/** Whether every section ended well and met its figures. */
export function isAllMet(results: Results): boolean {
  return Object.values(results).every(({ failure, figures }) => failure === undefined && figures.every(isMet));
}

/** The page: sections in this order, then when each was measured, then the figures that must be met, of all of them. */
export function renderResults(results: Results, order: readonly string[], machine: string): string {
  const lines: string[] = [];
  const { say, table } = createPage(lines, []);
  const sections = order.flatMap((name) => (results[name] === undefined ? [] : [{ name, ...results[name] }]));
  const inTime = sections.toSorted((a, b) => (a.beganAt < b.beganAt ? -1 : 1));
  const [first] = inTime;
  const commits = [...new Set(inTime.map(({ commit }) => commit))];
  say('# Benchmark');
  say();
  say(
    `${minuteOf(first?.beganAt)}, commit ${commits.join(' and ')}, ${machine}. Load average at the start: ${digits(first?.loadBefore ?? Number.NaN)}.`,
  );
  say(
    'RabbitMQ runs as it is shipped. Every section is a process of its own, and every ratio one between figures of the same run of it; absolute figures belong to this machine.',
  );
  for (const { name, lines: written, failure } of sections) {
    for (const line of written) say(line);
    if (failure === undefined) continue;
    say();
    say(`**\`${name}\` failed**: ${failure}`);
  }
  say();
  say('## When it was measured');
  table(
    ['section', 'began (UTC)', 'commit', 'load average before', 'took s', ''],
    inTime.map(({ name, beganAt, commit, loadBefore, seconds, failure }) => [
      name,
      minuteOf(beganAt),
      commit,
      loadBefore,
      Math.round(seconds),
      failure === undefined ? '' : '**failed**',
    ]),
  );
  const figures = sections.flatMap((section) => section.figures);
  say('## Figures that must be met');
  table(
    ['load', 'must', 'found', ''],
    figures.map((figure) => [figure.load, figure.must, figure.found, verdict(figure.isMet)]),
  );
  const absent = order.filter((name) => results[name] === undefined || results[name].failure !== undefined);
  if (absent.length > 0) say(`Without those of ${absent.join(', ')}.`);
  return `${lines.join('\n').trimEnd()}\n`;
}

function isMet(figure: { readonly isMet: boolean }): boolean {
  return figure.isMet;
}

function minuteOf(iso = ''): string {
  return iso.slice(0, 16).replace('T', ' ');
}
