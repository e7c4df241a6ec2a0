// `npm run bench` measures every section and writes the page bench/results.md. `-- --quick` takes about two minutes;
// `-- memory isolate` runs only the named sections, `--update` puts them into the page; `-- --profile` writes CPU
// profiles. See bench/README.md.
import { spawnSync } from 'node:child_process';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { root } from './processes.ts';
import { writeProfiles } from './profile.ts';
import { isAllMet, readResults, renderResults, type Results, writeResults } from './results.ts';
import { runSection } from './run-section.ts';
import { planRun, SECTIONS } from './sections.ts';

const ORDER = Object.keys(SECTIONS);
const FLAGS = ['--quick', '--update', '--profile'];

const isQuick = process.argv.includes('--quick');
const isUpdate = process.argv.includes('--update');
const words = process.argv.slice(2);
const named = words.filter((word) => !word.startsWith('--'));
const unknown = words.filter((word) => !FLAGS.includes(word) && !ORDER.includes(word));
if (unknown.length > 0 || (isUpdate && isQuick)) {
  const why = unknown.length > 0 ? `no section ${unknown.join(', ')}` : 'a quick run is not for the page';
  process.stderr.write(`${why}; there are ${ORDER.join(', ')}, and ${FLAGS.join(', ')}\n`);
  process.exit(2);
}

const built = spawnSync(process.execPath, [join(root, 'tools/build.mjs')], { cwd: root, stdio: ['ignore', 2, 2] });
if (built.status !== 0) process.exit(1);

if (process.argv.includes('--profile')) {
  process.stdout.write(`${(await writeProfiles()).join('\n')}\n`);
  process.exit(0);
}

const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim();
const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}`;
const isKept = isUpdate || (named.length === 0 && !isQuick);
let results: Results = isUpdate ? readResults() : {};
let page = '';
for (const name of planRun(named, isQuick)) {
  const [loadBefore = Number.NaN] = loadavg();
  const beganAt = new Date();
  const args = [name, ...(isQuick ? ['--quick'] : [])];
  const outcome = await runSection(join(root, 'bench/one-section.ts'), args, (SECTIONS[name]?.limitS ?? 0) * 1_000);
  const seconds = (Date.now() - beganAt.getTime()) / 1_000;
  results = { ...results, [name]: { ...outcome, beganAt: beganAt.toISOString(), commit, loadBefore, seconds } };
  page = renderResults(results, ORDER, machine);
  // After every section: a run that is broken off has measured something.
  if (isKept) writeResults(results, page);
  const { failure } = outcome;
  process.stderr.write(
    `${name} ${failure === undefined ? 'took' : `failed (${failure}) after`} ${seconds.toFixed(0)} s\n`,
  );
}
process.stdout.write(page);
// A section that failed and a figure that is missed show in the exit code too.
process.exitCode = isAllMet(results) ? 0 : 1;
