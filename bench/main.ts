// `npm run bench` measures and prints one page, which it also writes to bench/results.md. `-- --quick` takes about two
// minutes; `-- memory isolate` runs only the named sections; `-- --profile` writes CPU profiles. See bench/README.md.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { createPage, type Figure, NOT_MET, type Section, verdict } from './page.ts';
import { root } from './processes.ts';
import { writeProfiles } from './profile.ts';
import { bundles } from './sections/bundles.ts';
import { coldStart } from './sections/cold-start.ts';
import { deploy } from './sections/deploy.ts';
import { direct } from './sections/direct.ts';
import { features } from './sections/features.ts';
import { hotPath } from './sections/hot-path.ts';
import { httpRuntime } from './sections/http-runtime.ts';
import { isolate } from './sections/isolate.ts';
import { memory } from './sections/memory.ts';
import { neighbour } from './sections/neighbour.ts';
import { scaleOut } from './sections/scale-out.ts';
import { single } from './sections/single.ts';
import { sse } from './sections/sse.ts';
import { start } from './sections/start.ts';

const SECTIONS: Readonly<Record<string, Section>> = {
  'hot-path': hotPath,
  single,
  bundles,
  'scale-out': scaleOut,
  features,
  direct,
  sse,
  'http-runtime': httpRuntime,
  start,
  deploy,
  neighbour,
  isolate,
  cold: coldStart,
  memory,
};

/** What a quick run measures, with shorter loads and fewer peers. */
const QUICK: readonly string[] = ['hot-path', 'single', 'isolate'];

const isQuick = process.argv.includes('--quick');
const named = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = named.filter((name) => SECTIONS[name] === undefined);
if (unknown.length > 0) {
  process.stderr.write(`no section ${unknown.join(', ')}; there are ${Object.keys(SECTIONS).join(', ')}\n`);
  process.exit(2);
}

const built = spawnSync(process.execPath, [join(root, 'tools/build.mjs')], { cwd: root, stdio: ['ignore', 2, 2] });
if (built.status !== 0) process.exit(1);

if (process.argv.includes('--profile')) {
  process.stdout.write(`${(await writeProfiles()).join('\n')}\n`);
  process.exit(0);
}

const lines: string[] = [];
const figures: Figure[] = [];
const page = createPage(lines, figures);
const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim();
page.say('# Benchmark');
page.say();
page.say(
  `${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}.`,
);
page.say(
  'RabbitMQ runs as it is shipped. Every ratio is between figures of this one run; absolute figures belong to this machine.',
);
if (isQuick) page.say(`A quick run, of ${(named.length > 0 ? named : QUICK).join(', ')} only.`);
for (const [name, section] of Object.entries(SECTIONS)) {
  if (named.length === 0 ? isQuick && !QUICK.includes(name) : !named.includes(name)) continue;
  const beganMs = performance.now();
  await section(page, isQuick);
  process.stderr.write(`${name} took ${((performance.now() - beganMs) / 1_000).toFixed(0)} s\n`);
}
if (figures.length > 0) {
  page.say();
  page.say('## Figures that must be met');
  page.table(
    ['load', 'must', 'found', ''],
    figures.map(({ load, must, found, isMet }) => [load, must, found, verdict(isMet)]),
  );
}

if (named.length === 0 && !isQuick) writeFileSync(join(root, 'bench/results.md'), `${lines.join('\n')}\n`);
// A figure that is missed shows in the exit code too.
process.exitCode = lines.some((line) => line.includes(NOT_MET)) ? 1 : 0;
