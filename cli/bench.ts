import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { FuncatronError } from '../core/errors.ts';
import { EXIT } from './failure.ts';
import type { Load, LoadOptions } from './load.ts';
import type { Terminal } from './terminal.ts';

const MAX_CONNECTIONS = 10_000;
const MAX_SECONDS = 24 * 3600;

interface Options {
  readonly connections: number;
  readonly duration: number;
  readonly rate?: number;
  readonly method?: string;
  readonly body?: string;
  readonly header?: Readonly<Record<string, string>>;
  readonly json?: true;
}

/** `funcatron bench <url>`: how many calls a second, how long they take, and where that time goes. */
export function registerBench(program: Command, terminal: Terminal): void {
  program
    .command('bench')
    .description('Call a URL again and again: calls a second, latency, and where the time goes.')
    .argument('<url>', 'of an operation', readUrl)
    .option('-c, --connections <count>', 'calls under way at once', numberUpTo(MAX_CONNECTIONS, 1), 10)
    .option('-d, --duration <seconds>', 'how long', numberUpTo(MAX_SECONDS), 10)
    .option(
      '-r, --rate <calls>',
      'calls a second, whatever the answers do; their time counts from when they were due',
      numberUpTo(1_000_000),
    )
    .option('-m, --method <method>', 'default: GET, or POST with a body')
    .option('-b, --body <text>', 'the body; @file reads a file; JSON unless a header says otherwise')
    .option('-H, --header <name:value>', 'a header; may be given again', readHeader)
    .option('--json', 'print the figures as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  funcatron bench http://127.0.0.1:8080/hello/world -c 64 -d 30\n' +
        `  funcatron bench http://127.0.0.1:8080/shop/orders -r 500 -b '{"item":7}'\n\n` +
        'Ends with 1 when a call was answered with 400 or above, or not at all; with 3 when none was.\n' +
        'Ctrl-C ends it early and prints what there is.',
    )
    .action((url: URL, options: Options) => bench(url, options, terminal));
}

async function bench(url: URL, options: Options, terminal: Terminal): Promise<void> {
  const [{ Load }, { formatReport, reportOf }] = await Promise.all([import('./load.ts'), import('./bench-report.ts')]);
  const body = options.body === undefined ? undefined : await readBody(options.body);
  const stop = new AbortController();
  const load: LoadOptions = {
    url,
    method: (options.method ?? (body === undefined ? 'GET' : 'POST')).toUpperCase(),
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...options.header },
    body,
    connections: options.connections,
    seconds: options.duration,
    rate: options.rate,
    signal: stop.signal,
  };
  const run = new Load(load);
  const interrupt = (): void => stop.abort();
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const progress = terminal.isInteractive ? showProgress(run, options.duration, terminal) : undefined;
  await run.run();
  clearInterval(progress);
  process.off('SIGINT', interrupt);
  process.off('SIGTERM', interrupt);
  terminal.out(options.json === true ? JSON.stringify(reportOf(run, load), null, 2) : formatReport(run, load));
  process.exitCode = stop.signal.aborted ? EXIT.interrupted : exitCodeOf(run);
  if (process.exitCode !== EXIT.unreachable) return;
  terminal.say(`${terminal.paint('red', 'error')}: nobody answers at ${url.origin}`);
  terminal.say('  → check that a frontend listens there: `funcatron up` prints its address');
}

/** A line each second, in the place of the one before. */
function showProgress(run: Load, seconds: number, terminal: Terminal): NodeJS.Timeout {
  const startedAt = performance.now();
  let before = 0;
  return setInterval(() => {
    const goneS = Math.round((performance.now() - startedAt) / 1000);
    const line = `${goneS} of ${seconds} s  ${run.answers - before} calls/s  p99 ${run.latencies.at(0.99).toFixed(1)} ms`;
    const up = goneS > 1 ? '\u001b[1A\u001b[2K' : '';
    before = run.answers;
    terminal.say(up + terminal.paint('dim', line));
  }, 1_000);
}

function exitCodeOf(run: Load): number {
  if (run.isUnreachable) return EXIT.unreachable;
  const isBad = run.errors.size > 0 || run.unfinished > 0 || [...run.statuses.keys()].some((status) => status >= 400);
  return isBad ? EXIT.failed : EXIT.ok;
}

function readUrl(text: string): URL {
  const url = URL.parse(text);
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new InvalidArgumentError('It must be like http://127.0.0.1:8080/hello/world.');
}

function numberUpTo(most: number, step?: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    const isWhole = step === undefined || Number.isInteger(value);
    if (text.trim() !== '' && value > 0 && value <= most && isWhole) return value;
    throw new InvalidArgumentError(`It must be a ${step === undefined ? '' : 'whole '}number above 0, up to ${most}.`);
  };
}

/** As curl spells it, or as `funcatron invoke` does. */
function readHeader(text: string, before: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const [, name, value] = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*[:=]\s*(.*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('It must be "<name>: <value>".');
  return { ...before, [name.toLowerCase()]: value };
}

async function readBody(text: string): Promise<Uint8Array> {
  if (!text.startsWith('@')) return Buffer.from(text);
  try {
    return await readFile(text.slice(1));
  } catch (cause) {
    throw new FuncatronError('INVALID_CONFIG', `cannot read the body from ${text.slice(1)}`, { cause });
  }
}
