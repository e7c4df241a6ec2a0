// `npm run bench` measures and prints one page, which it also writes to bench/results.md. `-- --quick` takes about two
// minutes; `-- memory isolate` runs only the named sections. See bench/README.md.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { createPage, NOT_MET, type Section } from './page.ts';
import { root } from './processes.ts';
import { coldStart } from './sections/cold-start.ts';
import { deploy } from './sections/deploy.ts';
import { httpRuntime } from './sections/http-runtime.ts';
import { isolate } from './sections/isolate.ts';
import { memory } from './sections/memory.ts';
import { neighbour } from './sections/neighbour.ts';
import { single } from './sections/single.ts';
import { start } from './sections/start.ts';
import { throughput } from './sections/throughput.ts';

const SECTIONS: Readonly<Record<string, Section>> = {
  throughput,
  single,
  'http-runtime': httpRuntime,
  start,
  deploy,
  neighbour,
  isolate,
  cold: coldStart,
  memory,
};

const isQuick = process.argv.includes('--quick');
const named = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = named.filter((name) => SECTIONS[name] === undefined);
if (unknown.length > 0) {
  process.stderr.write(`no section ${unknown.join(', ')}; there are ${Object.keys(SECTIONS).join(', ')}\n`);
  process.exit(2);
}

const built = spawnSync(process.execPath, [join(root, 'tools/build.mjs')], { cwd: root, stdio: ['ignore', 2, 2] });
if (built.status !== 0) process.exit(1);

const lines: string[] = [];
const page = createPage(lines);
const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim();
page.say('# Benchmark');
page.say();
page.say(
  `${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}.`,
);
page.say(
  'RabbitMQ runs as it is shipped. Every ratio is between figures of this one run; absolute figures belong to this machine.',
);
for (const [name, section] of Object.entries(SECTIONS))
  if (named.length === 0 || named.includes(name)) await section(page, isQuick);

if (named.length === 0 && !isQuick) writeFileSync(join(root, 'bench/results.md'), `${lines.join('\n')}\n`);
// A figure that is missed shows in the exit code too.
process.exitCode = lines.some((line) => line.includes(NOT_MET)) ? 1 : 0;
