import type { Command } from 'commander';
import { FuncatronError } from '../core/errors.ts';
import type { Bundle, Holder, Operation } from './answers.ts';
import { openClient } from './client.ts';
import { addSettings, CLIENT_SETTINGS, readSettings } from './settings.ts';
import { formatTable, type Terminal, withProgress } from './terminal.ts';

type Options = Readonly<Record<string, unknown>>;

/** `funcatron deploy | ls | describe | rm`. */
export function registerBundles(program: Command, terminal: Terminal): void {
  const verb = (name: string, text: string): Command =>
    addSettings(program.command(name).description(text), CLIENT_SETTINGS);

  verb('deploy', 'Upload a bundle and make it live; what was live serves until then.')
    .argument('[path]', 'a bundle folder, or an archive made by `pack`', '.')
    .option('--no-live', 'only store it; `promote` makes it live')
    .option('--json', 'print the answer as JSON')
    .addHelpText('after', '\nExample:\n  funcatron deploy bundles/hello')
    .action((path: string, options: Options) => deploy(path, options, terminal));
  verb('ls', 'List bundles.')
    .option('--json', 'print them as JSON')
    .action((options: Options) => list(options, terminal));
  verb('describe', 'Show a bundle: what is live, its operations, its last change.')
    .argument('<bundle>')
    .option('--json', 'print it as JSON')
    .action((bundle: string, options: Options) => describe(bundle, options, terminal));
  verb('rm', 'Take a bundle away. Calls under way end; its data and events stay, unless --purge.')
    .argument('<bundle>')
    .option('--purge', 'delete its data, events and dead letters too')
    .option('-y, --yes', 'do not ask')
    .action((bundle: string, options: Options) => remove(bundle, options, terminal));
}

async function deploy(path: string, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const { deployPath } = await import('./deploy.ts');
  const work = deployPath(client, path, options['live'] !== false, terminal);
  const deployed = await withProgress(terminal, `deploying ${path}`, work);
  if (options['json'] === true) {
    terminal.out(JSON.stringify(deployed, null, 2));
    return;
  }
  const { bundle, revision, alias, operations } = deployed;
  terminal.out(`${bundle} @ ${revision} ${alias === undefined ? 'is stored' : 'is live'}`);
  if (alias === undefined) terminal.say(`next:  funcatron promote ${bundle} ${revision}`);
  else printOperations(operations, terminal);
}

async function list(options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const { bundles } = await client.get<{ bundles: readonly Bundle[] }>('/bundles');
  if (options['json'] === true) {
    terminal.out(JSON.stringify(bundles, null, 2));
    return;
  }
  const rows = bundles.map((one) => [
    one.bundle,
    formatWeights(one.live),
    one.basePath === undefined ? '' : `${one.host ?? ''}${one.basePath || '/'}`,
    stateOf(one),
  ]);
  if (rows.length === 0) terminal.say('no bundles\nnext:  funcatron deploy <folder>');
  else terminal.out(formatTable(['bundle', 'live', 'address', 'state'], rows));
}

function stateOf({ revisions }: Bundle): string {
  const live = revisions.filter(({ weight }) => weight > 0);
  if (live.length === 0) return 'not live';
  return live.some(({ ready }) => ready > 0) ? 'serving' : 'no runner has it';
}

async function describe(name: string, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const found = await client.get<Bundle>(`/bundles/${encodeURIComponent(name)}`);
  if (options['json'] === true) {
    terminal.out(JSON.stringify(found, null, 2));
    return;
  }
  const { live, workers, lastChange, revisions, runners = [], failures = [], events = [], operations = [] } = found;
  terminal.out(`bundle    ${found.bundle}`);
  terminal.out(`live      ${formatWeights(live)}`);
  for (const { revision, runners, ready, weight } of revisions) {
    if (weight > 0) terminal.out(`runners   ${ready} of ${runners} have ${revision}`);
  }
  for (const failure of failures) terminal.out(`state     ${formatFailure(failure)}`);
  for (const { runner, revision, running, since } of events) {
    terminal.out(`events    ${running} of ${revision} run on ${runner}, the oldest since ${since}`);
  }
  if (workers !== undefined) terminal.out(`workers   ${workers.min} to ${workers.max} per runner`);
  if (lastChange?.error !== undefined) terminal.out(`failed    ${lastChange.error.message}`);
  terminal.out(`revisions ${revisions.length}`);
  const rows = runners.map((holder) => [
    '  ' + holder.runner,
    holder.revision,
    stateOfHolder(holder),
    ...countsOf(holder),
  ]);
  const table = formatTable(['  runner', 'revision', 'state', 'workers', 'min', 'max', 'restarts', 'calls'], rows);
  if (table !== '') terminal.out(table);
  printOperations(operations, terminal);
  if (failures.length > 0 || lastChange?.error !== undefined || runners.some(({ restarts = 0 }) => restarts > 0)) {
    terminal.say(`next:  funcatron logs ${found.bundle}     (how its workers died, and what its code wrote)`);
  }
}

function stateOfHolder({ state, workers, bounds, retryAt }: Holder): string {
  if (state === 'failed') return retryAt === undefined ? 'failed' : 'quarantine';
  if (state === 'loading' || workers > 0) return state;
  return bounds?.min === 0 ? 'scaled to zero' : 'starting';
}

function countsOf({ workers, bounds, restarts, inFlight }: Holder): readonly string[] {
  return [workers, bounds?.min ?? '-', bounds?.max ?? '-', restarts ?? '-', inFlight].map(String);
}

async function remove(name: string, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const purge = options['purge'] === true;
  if (options['yes'] !== true) await confirm(`remove ${name}${purge ? ' and its data' : ''}`, terminal);
  const path = `/bundles/${encodeURIComponent(name)}${purge ? '?purge=true' : ''}`;
  const removal = client.send<{ draining: readonly string[] } | undefined>('DELETE', path);
  const answer = await withProgress(terminal, `removing ${name}`, removal);
  terminal.out(answer === undefined ? `${name} is gone` : `${name} has no routes any more; its last calls are ending`);
}

/** Asks, where somebody can answer. @throws INVALID_CONFIG where nobody can, and when the answer is no */
async function confirm(what: string, terminal: Terminal): Promise<void> {
  if (!terminal.isInteractive) {
    throw new FuncatronError('INVALID_CONFIG', `will not ${what} unasked`, { data: { hint: 'add --yes' } });
  }
  const { createInterface } = await import('node:readline/promises');
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await lines.question(`${what}? [y/N] `);
  lines.close();
  if (!/^y(es)?$/i.test(answer.trim())) {
    throw new FuncatronError('INVALID_CONFIG', 'nothing was removed', { data: { hint: 'answer y, or add --yes' } });
  }
}

/** `failed: 3f9c0a12be77 on r1 since …: FUNC_CRASHED the worker died (memory); next try …`. */
function formatFailure({ runner, revision, error, since, retryAt }: Holder): string {
  const from = since === undefined ? '' : ` since ${since}`;
  const why = error === undefined ? '' : `: ${error.code} ${error.message}`;
  const next = retryAt === undefined ? '' : `; next try ${retryAt}`;
  return `failed: ${revision} on ${runner}${from}${why}${next}`;
}

/** `3f9c0a12be77`, or with shares where there are several: `3f9c0a12be77 90%, 81d2aa0c4f10 10%`. */
export function formatWeights(weights: Readonly<Record<string, number>>): string {
  const parts = Object.entries(weights).filter(([, weight]) => weight > 0);
  const total = parts.reduce((sum, [, weight]) => sum + weight, 0);
  if (parts.length === 0) return 'nothing';
  if (parts.length === 1) return parts[0]?.[0] ?? '';
  return parts.map(([revision, weight]) => `${revision} ${Math.round((100 * weight) / total)}%`).join(', ');
}

/** Writes a row for each operation; one without a route says so in its place. */
export function printOperations(operations: readonly Operation[], terminal: Pick<Terminal, 'out'>): void {
  const rows = operations.map(({ method, path, http, operationId }) =>
    http ? [`  ${method}`, path, operationId] : ['  -', 'queue only', operationId],
  );
  const table = formatTable(['  method', 'path', 'operation'], rows);
  if (table !== '') terminal.out(table);
}
