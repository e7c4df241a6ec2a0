// The test suites and how they are run: mocha processes side by side, because most tests wait most of their time.
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const root = join(import.meta.dirname, '..');
const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');

/**
 * One process for all files of `together`; one for each file of `apart`, with servers of its own.
 * @type {Readonly<Record<string, { together?: readonly string[], apart?: string }>>}
 */
const SUITES = {
  unit: { together: ['test/unit/**/*.test.ts', 'test/repo/**/*.test.ts'] },
  contract: { apart: 'test/contract/**/*.test.ts' },
  integration: { apart: 'test/integration/**/*.test.ts' },
  e2e: { together: ['bundles/*/test/**/*.test.ts'], apart: 'test/e2e/**/*.test.ts' },
};

/** These compute all their time: one beside the other they would only be slower, and late for their deadlines. */
const COMPUTING = `escapes escapes-node24 bombs bombs-thread
  isolate-process isolate-strict isolate-thread isolate-node`.split(/\s+/);
/** These wait longest and begin first, so that none of them runs alone at the end. */
const LONGEST = ['unit', 'direct-cluster', 'cluster', 'amqp-faults'];
const CORES = availableParallelism();
/** A process that has not ended by then hangs, or has left something open: mocha runs without `--exit`. */
const LIMIT_MS = 10 * 60_000;
/** Lines shown of one failure. */
const FAILURE_LINES = 30;

/**
 * @typedef {{ suite: string, name: string, files: readonly string[] }} Part What one process runs.
 * @typedef {{ passed: number, failed: number, skipped: number, failures: readonly string[] }} Outcome
 */

/**
 * Runs suites, or files of theirs; what a process has written is written when it has ended.
 * @param {readonly string[]} names of suites, or of files without `.test.ts`; none = everything
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<ReadonlyMap<string, Outcome>>} by suite
 */
export async function runSuites(names, env) {
  const parts = Object.keys(SUITES)
    .flatMap(partsOf)
    .filter(({ suite, name }) => names.length === 0 || names.includes(suite) || names.includes(name));
  const computing = inOrder(parts, COMPUTING).filter(({ name }) => COMPUTING.includes(name));
  const waiting = inOrder(parts, LONGEST).filter(({ name }) => !COMPUTING.includes(name));
  /** @type {Map<string, Outcome>} */
  const outcomes = new Map();
  /** @param {...Part[]} queues the first that is not empty comes first */
  async function run(...queues) {
    for (;;) {
      const part = queues.find(({ length }) => length > 0)?.shift();
      if (part === undefined) return;
      const outcome = await runPart(part, env);
      outcomes.set(part.suite, sum([outcomes.get(part.suite) ?? sum([]), outcome]));
    }
  }
  const computingLanes = Array.from({ length: Math.max(1, CORES - 1) }, () => run(computing, waiting));
  const waitingLanes = Array.from({ length: Math.max(1, CORES - 1) }, () => run(waiting));
  await Promise.all([...computingLanes, ...waitingLanes]);
  return outcomes;
}

/** @param {readonly Outcome[]} outcomes @returns {Outcome} */
export function sum(outcomes) {
  return {
    passed: outcomes.reduce((total, { passed }) => total + passed, 0),
    failed: outcomes.reduce((total, { failed }) => total + failed, 0),
    skipped: outcomes.reduce((total, { skipped }) => total + skipped, 0),
    failures: outcomes.flatMap(({ failures }) => failures),
  };
}

/** @param {string} suite @returns {Part[]} */
function partsOf(suite) {
  const { together = [], apart } = SUITES[suite] ?? {};
  const shared = filesOf(together);
  const rest = apart === undefined ? [] : filesOf([apart]);
  return [
    ...(shared.length === 0 ? [] : [{ suite, name: suite, files: shared }]),
    ...rest.map((file) => ({ suite, name: basename(file, '.test.ts'), files: [file] })),
  ];
}

/** @param {readonly string[]} patterns */
function filesOf(patterns) {
  return globSync([...patterns], { cwd: root }).toSorted((a, b) => a.localeCompare(b));
}

/** Those named first, in that order. @param {readonly Part[]} parts @param {readonly string[]} first */
function inOrder(parts, first) {
  /** @param {Part} part */
  const rankOf = ({ name }) => (first.includes(name) ? first.indexOf(name) : first.length);
  return parts.toSorted((a, b) => rankOf(a) - rankOf(b));
}

/** @param {Part} part @param {NodeJS.ProcessEnv} env @returns {Promise<Outcome>} */
function runPart({ suite, name, files }, env) {
  const startedAt = performance.now();
  const child = spawn(process.execPath, [mocha, ...files], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk) => (text += chunk));
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      clearTimeout(limit);
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      const title = name === suite ? suite : `${suite}/${name}`;
      process.stdout.write(`\n== ${title}: ${seconds} s\n${text}`);
      const outcome = read(stripVTControlCharacters(text));
      const failures = outcome.failures.map((failure) => `${title}: ${failure}`);
      if (code === 0 || failures.length > 0) return resolve({ ...outcome, failures });
      const end = `${title} ended with ${code ?? signal}:\n${text.trimEnd().split('\n').slice(-FAILURE_LINES).join('\n')}`;
      resolve({ ...outcome, failed: outcome.failed + 1, failures: [end] });
    });
  });
}

/** What mocha says at its end. @param {string} text @returns {Outcome} */
function read(text) {
  /** @param {string} word */
  const count = (word) => Number([...text.matchAll(new RegExp(`^ +(\\d+) ${word}\\b`, 'gm'))].at(-1)?.[1] ?? 0);
  const [, list = ''] = /^ +\d+ failing\n([^]*)$/m.exec(text) ?? [];
  const failures = list.split(/^ {2}(?=\d+\) )/m).slice(1);
  return {
    passed: count('passing'),
    failed: count('failing'),
    skipped: count('pending'),
    failures: failures.map((failure) => failure.trimEnd().split('\n').slice(0, FAILURE_LINES).join('\n')),
  };
}
