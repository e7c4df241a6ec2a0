// Runs the test suites, one mocha process after the other, and closes with one line of totals and the failures again:
// whoever sees only the end of a long log sees all of them.
// `npm test -- integration` runs only the suites whose name is given.
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const root = join(import.meta.dirname, '..');
const suites = [
  { name: 'unit', files: ['test/unit/**/*.test.ts', 'test/repo/**/*.test.ts'] },
  { name: 'contract', files: ['test/contract/**/*.test.ts'] },
  { name: 'integration', files: ['test/integration/**/*.test.ts'] },
  { name: 'e2e', files: ['test/e2e/**/*.test.ts', 'bundles/*/test/**/*.test.ts'] },
];
/** Lines shown of one failure at the end. */
const FAILURE_LINES = 30;
const wanted = process.argv.slice(2);
const totals = { passing: 0, failing: 0, pending: 0 };
/** @type {string[]} */
const failures = [];
let failed = false;

for (const suite of suites.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const files = suite.files.flatMap((pattern) => globSync(pattern, { cwd: root }));
  files.sort((a, b) => a.localeCompare(b));
  process.stdout.write(`\n== ${suite.name}: ${files.length} files\n`);
  const code = await runMocha(suite.name, files);
  if (code !== 0) failed = true;
}
process.stdout.write(`\n${totals.passing} passed, ${totals.failing} failed, ${totals.pending} skipped\n`);
for (const failure of failures) process.stdout.write(`\n${failure}\n`);
// Under CI a suite that was skipped because its server is missing counts as failed: see test/helpers/servers.
process.exitCode = failed || totals.passing === 0 ? 1 : 0;

/** @param {string} suite @param {readonly string[]} files @returns {Promise<number>} */
function runMocha(suite, files) {
  const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');
  const child = spawn(process.execPath, [mocha, ...files], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    process.stdout.write(chunk);
    text = (text + chunk).slice(-200_000);
  });
  return new Promise((resolve) => {
    child.on('close', (code) => {
      const plain = stripVTControlCharacters(text);
      for (const key of /** @type {const} */ (['passing', 'failing', 'pending'])) {
        totals[key] += Number([...plain.matchAll(new RegExp(`^\\s+(\\d+) ${key}\\b`, 'gm'))].at(-1)?.[1] ?? 0);
      }
      const found = failuresOf(plain);
      if (code !== 0 && found.length === 0) {
        totals.failing += 1;
        found.push(plain.trimEnd().split('\n').slice(-FAILURE_LINES).join('\n'));
      }
      failures.push(...found.map((failure) => `${suite}: ${failure}`));
      resolve(code ?? 1);
    });
  });
}

/** What mocha tells of each failed test at its end: full name and error. @param {string} text */
function failuresOf(text) {
  const [, list = ''] = /^ +\d+ failing\n([^]*)$/m.exec(text) ?? [];
  const each = list.split(/^ {2}(?=\d+\) )/m).slice(1);
  return each.map((failure) => failure.trimEnd().split('\n').slice(0, FAILURE_LINES).join('\n'));
}
