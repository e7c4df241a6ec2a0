// `npm run bench` measures and prints one table, which it also writes to bench/results.md. `-- --quick` takes about two
// minutes; `-- throughput single start deploy neighbour isolate` runs only what is named.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { root } from './processes.ts';
import { measureColdStart } from './measures/cold-start.ts';
import { measureDeploy } from './measures/deploy.ts';
import { measureMemory } from './measures/memory.ts';
import { measureNeighbour } from './measures/neighbour.ts';
import { measureHttpRuntime } from './measures/http-runtime.ts';
import { measureIsolate } from './measures/isolate.ts';
import { measureSingle } from './measures/single.ts';
import { measureStart } from './measures/start.ts';
import { measureThroughput } from './measures/throughput.ts';

const quick = process.argv.includes('--quick');
const named = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const wanted = (name: string): boolean => named.length === 0 || named.includes(name);
const lines: string[] = [];

function say(line = ''): void {
  lines.push(line);
  process.stdout.write(`${line}\n`);
}

function verdict(met: boolean): string {
  return met ? 'met' : '**not met**';
}

function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Runs a program of this project's and gives up when it fails. */
function must(script: string): void {
  const { status } = spawnSync(process.execPath, [join(root, script)], { cwd: root, stdio: ['ignore', 2, 'inherit'] });
  if (status !== 0) process.exit(1);
}

must('tools/build.mjs');
const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim();
say('# Benchmark');
say();
say(
  `${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}.`,
);
say(
  'Bodies of about 200 bytes; RabbitMQ runs as it is shipped. Every ratio is between figures of this one run; absolute figures belong to this machine.',
);

if (wanted('throughput')) {
  const rows = await measureThroughput(64, quick ? 3 : 5, quick ? 3 : 5);
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
}

if (wanted('single')) {
  const result = await measureSingle(quick ? 3 : 5, quick ? 2 : 4);
  const parts = result.httpMs + result.amqpMs + result.isolateMs;
  const ratio = result.funcatronMs / parts;
  say();
  say('## One connection');
  say();
  say('| | p50 ms |');
  say('|---|--:|');
  say(`| bare node:http | ${result.httpMs.toFixed(3)} |`);
  say(`| amqplib request/reply over the same RabbitMQ | ${result.amqpMs.toFixed(3)} |`);
  say(`| one round trip through the process isolate | ${result.isolateMs.toFixed(3)} |`);
  say(`| sum of these parts | ${parts.toFixed(3)} |`);
  say(`| funcatron over RabbitMQ | ${result.funcatronMs.toFixed(3)} |`);
  say();
  say(`funcatron / sum of its parts: **${ratio.toFixed(2)}** (must be ≤ 1.4: ${verdict(ratio <= 1.4)})`);
}

if (wanted('http-runtime')) {
  const { runtimePerS, pipePerS } = await measureHttpRuntime(quick ? 3 : 5, quick ? 1 : 2);
  const ratio = runtimePerS / pipePerS;
  say();
  say('## Runtime `http`');
  say();
  say('The loop of `bundles/fn-python`, one worker, one call after the other.');
  say();
  say('| | calls/s |');
  say('|---|--:|');
  say(`| one worker of the runtime | ${runtimePerS.toFixed(0)} |`);
  say(`| a bare pipe loop driving the same program | ${pipePerS.toFixed(0)} |`);
  say();
  say(`runtime / bare loop: **${ratio.toFixed(2)}** (must be ≥ 0.5: ${verdict(ratio >= 0.5)})`);
}

if (wanted('start')) {
  const startMs = await measureStart(quick ? 3 : 5);
  say();
  say('## Start and deploy');
  say();
  say(
    `\`npm start\`, packages installed, from exec to the first answered call: **${startMs.toFixed(0)} ms** (must be ≤ 3000: ${verdict(startMs <= 3_000)})`,
  );
}

if (wanted('deploy')) {
  const { medianMs, slowestMs } = await measureDeploy(quick ? 10 : 20);
  say();
  say(
    `deploy over RabbitMQ with 2 runners, first byte of the upload to the first 200: **${medianMs.toFixed(0)} ms** median, ${slowestMs.toFixed(0)} ms slowest (must be ≤ 500: ${verdict(medianMs <= 500)})`,
  );
}

if (wanted('neighbour')) {
  const [loadBefore = 0] = loadavg();
  const { quiet, rows } = await measureNeighbour(quick ? 3 : 5);
  const limitMs = Math.max(3 * quiet.p99Ms, quiet.p99Ms + 25);
  say();
  say('## A neighbour at 200 calls/s beside a bundle that misbehaves');
  say();
  say(
    `Its p99 alone: ${quiet.p99Ms.toFixed(1)} ms; beside a bomb it must be ≤ max(3 ×, + 25 ms) = ${limitMs.toFixed(1)} ms, with no call lost. A worker must be back ≤ 1 500 ms (grace 500 + 1 000) after the bomb's deadline or crash. Load average before: ${loadBefore.toFixed(1)}.`,
  );
  say();
  say(
    '| bomb | its calls end with | neighbour p50 ms | p99 ms | | errors | worker back after ms, median | slowest | |',
  );
  say('|---|---|--:|--:|---|--:|--:|--:|---|');
  say(`| none | | ${quiet.p50Ms.toFixed(1)} | ${quiet.p99Ms.toFixed(1)} | | ${quiet.errors} | | | |`);
  for (const row of rows) {
    const isFast = verdict(row.p99Ms <= limitMs && row.errors === 0);
    const isBack = verdict(row.slowestBackMs <= 1_500);
    say(
      `| ${row.bomb} | ${row.codes.join(', ')} | ${row.p50Ms.toFixed(1)} | ${row.p99Ms.toFixed(1)} | ${isFast} | ${row.errors} | ${row.backAfterMs.toFixed(0)} | ${row.slowestBackMs.toFixed(0)} | ${isBack} |`,
    );
  }
}

if (wanted('isolate')) {
  const { batchedPerS, inThreadPerS, serialMs, echoMs } = await measureIsolate(quick ? 3 : 5, quick ? 2 : 4);
  const batched = batchedPerS / inThreadPerS;
  const serial = serialMs / echoMs;
  say();
  say('## The process isolate');
  say();
  say('| one worker, 1 KB of JSON echoed | |');
  say('|---|--:|');
  say(`| batches of 32 through the isolate | ${batchedPerS.toFixed(0)} calls/s |`);
  say(`| the same context called in-thread | ${inThreadPerS.toFixed(0)} calls/s |`);
  say(`| one call at a time, p50 | ${(serialMs * 1000).toFixed(0)} µs |`);
  say(`| a bare echo of the same bytes over fd 3, p50 | ${(echoMs * 1000).toFixed(0)} µs |`);
  say();
  say(`batched / in-thread: **${batched.toFixed(2)}** (must be ≥ 0.6: ${verdict(batched >= 0.6)})`);
  say();
  say(`one at a time / bare echo: **${serial.toFixed(2)}** (must be ≤ 2: ${verdict(serial <= 2)})`);
}

if (wanted('cold')) {
  say();
  say('## Cold start');
  say();
  say(
    'From the arrival of a call for a bundle without a worker, at a runner with a pool of 4, to the first line of its func; beside it processes that only adopt, compile and run the same text.',
  );
  say();
  say('| bundle | | p50 ms | p99 ms | bare p50 ms | bare p99 ms | p50 / bare p50, must be ≤ 3 | |');
  say('|---|---|--:|--:|--:|--:|--:|---|');
  for (const { bundle, way, coldMs, bareMs } of await measureColdStart(quick ? 2 : 5)) {
    const ratio = quantile(coldMs, 0.5) / quantile(bareMs, 0.5);
    const figures = [coldMs, bareMs].flatMap((samples) => [quantile(samples, 0.5), quantile(samples, 0.99)]);
    say(
      `| ${bundle} | ${way} | ${figures.map((ms) => ms.toFixed(1)).join(' | ')} | ${ratio.toFixed(2)} | ${verdict(ratio <= 3)} |`,
    );
  }
}

if (wanted('memory')) {
  const bundles = quick ? 100 : 1_000;
  const { idleBundleMb, hotWorkerMb } = await measureMemory(bundles);
  say();
  say(
    `Memory: an idle bundle of ${bundles} takes **${idleBundleMb.toFixed(2)} MB** on its runner (must be ≤ 1: ${verdict(idleBundleMb <= 1)}), a hot worker **${hotWorkerMb.toFixed(0)} MB** PSS (must be ≤ 50: ${verdict(hotWorkerMb <= 50)})`,
  );
}

if (named.length === 0) writeFileSync(join(root, 'bench/results.md'), `${lines.join('\n')}\n`);
// A figure that is missed shows in the exit code too.
process.exitCode = lines.some((line) => line.includes('**not met**')) ? 1 : 0;
