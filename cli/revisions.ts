import { type Command, InvalidArgumentError } from 'commander';
import { FuncatronError } from '../core/errors.ts';
import type { Changed, Revision } from './answers.ts';
import { formatWeights } from './bundles.ts';
import { openClient } from './client.ts';
import { addSettings, CLIENT_SETTINGS, readSettings } from './settings.ts';
import { formatTable, type Terminal, withProgress } from './terminal.ts';

type Options = Readonly<Record<string, unknown>>;

/** `funcatron versions | promote | rollback | scale`. */
export function registerRevisions(program: Command, terminal: Terminal): void {
  const verb = (name: string, text: string): Command =>
    addSettings(program.command(name).description(text).argument('<bundle>'), CLIENT_SETTINGS);

  verb('versions', 'List the revisions of a bundle, oldest first.')
    .option('--json', 'print them as JSON')
    .action((bundle: string, options: Options) => versions(bundle, options, terminal));
  verb('promote', 'Choose which revisions answer, and how often.')
    .argument('<revisions...>', 'a revision, or several with their shares: 3f9c0a12be77=90 81d2aa0c4f10=10')
    .option('--json', 'print the answer as JSON')
    .action((bundle: string, revisions: readonly string[], options: Options) =>
      promote(bundle, revisions, options, terminal),
    );
  verb('rollback', 'Make live again what was live before.')
    .option('--json', 'print the answer as JSON')
    .action((bundle: string, options: Options) => rollback(bundle, options, terminal));
  verb('scale', 'Set how many workers each runner has for a bundle.')
    .requiredOption('--min <count>', 'workers that are always there', parseCount)
    .requiredOption('--max <count>', 'most workers', parseCount)
    .action((bundle: string, options: Options & { min: number; max: number }) => scale(bundle, options, terminal));
}

async function versions(bundle: string, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const { revisions } = await client.get<{ revisions: readonly Revision[] }>(`${pathOf(bundle)}/revisions`);
  if (options['json'] === true) {
    terminal.out(JSON.stringify(revisions, null, 2));
    return;
  }
  const rows = revisions.map((one) => [
    one.revision,
    one.version,
    one.createdAt,
    one.phase,
    String(one.weight),
    `${one.ready}/${one.runners}`,
  ]);
  terminal.out(formatTable(['revision', 'version', 'uploaded', 'state', 'weight', 'runners'], rows));
}

async function promote(
  bundle: string,
  revisions: readonly string[],
  options: Options,
  terminal: Terminal,
): Promise<void> {
  const weights = parseWeights(revisions);
  const client = await openClient(readSettings(options));
  const change = client.send<Changed>('PUT', `${pathOf(bundle)}/aliases/live`, { weights });
  printChanged(await withProgress(terminal, `promoting ${bundle}`, change), options, terminal);
}

async function rollback(bundle: string, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const change = client.send<Changed>('POST', `${pathOf(bundle)}/rollback`);
  printChanged(await withProgress(terminal, `rolling back ${bundle}`, change), options, terminal);
}

async function scale(
  bundle: string,
  { min, max, ...options }: Options & { min: number; max: number },
  terminal: Terminal,
): Promise<void> {
  const client = await openClient(readSettings(options));
  const workers = await client.send<{ min: number; max: number }>('PUT', `${pathOf(bundle)}/scale`, { min, max });
  terminal.out(`${bundle} has ${workers.min} to ${workers.max} workers on each runner`);
}

function printChanged(changed: Changed, options: Options, terminal: Terminal): void {
  if (options['json'] === true) terminal.out(JSON.stringify(changed, null, 2));
  else terminal.out(`${changed.bundle}: live is ${formatWeights(changed.weights)}`);
}

function pathOf(bundle: string): string {
  return `/bundles/${encodeURIComponent(bundle)}`;
}

/**
 * `['3f9c0a12be77']` → all of it; `['3f9c0a12be77=90', '81d2aa0c4f10=10']` → shares.
 * @throws INVALID_CONFIG
 */
export function parseWeights(revisions: readonly string[]): Record<string, number> {
  const weights: Record<string, number> = {};
  for (const text of revisions) {
    const [, revision, weight] = /^([0-9a-f]{12})(?:=(\d{1,4}))?$/.exec(text) ?? [];
    if (revision === undefined) {
      throw wrongUsage(`"${text}" is neither a revision (12 hex digits) nor <revision>=<weight>`);
    }
    if (weight === undefined && revisions.length > 1) {
      throw wrongUsage(`say how much of the calls ${revision} gets: ${revision}=50`);
    }
    weights[revision] = weight === undefined ? 100 : Number(weight);
  }
  return weights;
}

function wrongUsage(message: string): FuncatronError {
  const hint = '`funcatron versions <bundle>` lists its revisions';
  return new FuncatronError('INVALID_CONFIG', message, { data: { hint } });
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('It must be a whole number of 1 or more.');
  return count;
}
