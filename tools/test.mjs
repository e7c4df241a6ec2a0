// Runs the test suites, one mocha process after the other, and closes with one line of totals.
// `npm test -- integration` runs only the suites whose name is given.
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const suites = [
  { name: 'unit', files: ['test/unit/**/*.test.ts', 'test/repo/**/*.test.ts'] },
  { name: 'contract', files: ['test/contract/**/*.test.ts'] },
  { name: 'integration', files: ['test/integration/**/*.test.ts'] },
  { name: 'e2e', files: ['test/e2e/**/*.test.ts', 'bundles/*/test/**/*.test.ts'] },
];
const wanted = process.argv.slice(2);
const totals = { passing: 0, failing: 0, pending: 0 };
let failed = false;

for (const suite of suites.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const files = suite.files.flatMap((pattern) => globSync(pattern, { cwd: root }));
  files.sort((a, b) => a.localeCompare(b));
  process.stdout.write(`\n== ${suite.name}: ${files.length} files\n`);
  const code = await runMocha(files);
  if (code !== 0) failed = true;
}
process.stdout.write(`\n${totals.passing} passed, ${totals.failing} failed, ${totals.pending} skipped\n`);
// Under CI a suite that was skipped because its server is missing counts as failed: see test/helpers/servers.
process.exitCode = failed || totals.passing === 0 ? 1 : 0;

/** @param {readonly string[]} files @returns {Promise<number>} */
function runMocha(files) {
  const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');
  const child = spawn(process.execPath, [mocha, ...files], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    process.stdout.write(chunk);
    text = (text + chunk).slice(-200_000);
  });
  return new Promise((resolve) => {
    child.on('close', (code) => {
      for (const key of /** @type {const} */ (['passing', 'failing', 'pending'])) {
        totals[key] += Number([...text.matchAll(new RegExp(`^\\s+(\\d+) ${key}\\b`, 'gm'))].at(-1)?.[1] ?? 0);
      }
      if (code !== 0 && totals.failing === 0) totals.failing += 1;
      resolve(code ?? 1);
    });
  });
}
