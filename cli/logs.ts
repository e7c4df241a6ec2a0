import { type Command, InvalidArgumentError, Option } from 'commander';
import { LOG_LEVELS } from '../core/log.ts';
import type { LogLine } from '../core/wire/control.ts';
import type { Logs } from './answers.ts';
import { openClient, type TronClient } from './client.ts';
import { addSettings, CLIENT_SETTINGS, readSettings } from './settings.ts';
import type { Terminal } from './terminal.ts';

interface Options extends Readonly<Record<string, unknown>> {
  readonly follow?: true;
  readonly level?: string;
  readonly call?: string;
  readonly since?: string;
  readonly limit?: string;
  readonly json?: true;
}

/** `funcatron logs`: what funcs logged. */
export function registerLogs(program: Command, terminal: Terminal): void {
  const command = program
    .command('logs')
    .description('Show what funcs logged.')
    .argument('[bundle]', 'default: all')
    .option('-f, --follow', 'go on with what comes')
    .addOption(new Option('--level <level>', 'the least level').choices(LOG_LEVELS))
    .option('--call <id>', 'only this call')
    .option('--since <time>', '10m, 2h, 1d, or a time in ISO 8601', parseSince)
    .option('--limit <count>', 'the newest so many lines')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', '\nExample:\n  funcatron logs hello -f --level warn');
  addSettings(command, CLIENT_SETTINGS);
  command.action((bundle: string | undefined, options: Options) => logs(bundle, options, terminal));
}

async function logs(bundle: string | undefined, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...options, bundle })) {
    if (['bundle', 'level', 'call', 'since', 'limit'].includes(name) && typeof value === 'string')
      query.set(name, value);
  }
  const print = (line: LogLine): void =>
    terminal.out(options.json === true ? JSON.stringify(line) : formatLine(line, terminal));
  if (options.follow !== true) {
    const { lines } = await client.get<Logs>(`/logs?${query.toString()}`);
    lines.forEach(print);
    // A name nobody deployed is more likely mistyped than silent: tron says which there are.
    if (lines.length === 0 && bundle !== undefined) await client.get(`/bundles/${encodeURIComponent(bundle)}`);
    if (lines.length === 0) terminal.say('no lines\nnext:  funcatron logs --follow waits for them');
    return;
  }
  query.set('follow', '1');
  await follow(client, query, print);
}

/** Until Ctrl-C, or until tron ends. */
async function follow(client: TronClient, query: URLSearchParams, print: (line: LogLine) => void): Promise<void> {
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  for await (const data of client.events(`/logs?${query.toString()}`, stop.signal)) print(JSON.parse(data) as LogLine);
}

/** `12:03:04.123 info  hello/greet  greeting {"name":"ada"}  0193…`. */
function formatLine(line: LogLine, terminal: Terminal): string {
  const time = new Date(line.time).toISOString().slice(11, 23);
  const style = line.level === 'error' ? 'red' : line.level === 'warn' ? 'yellow' : 'dim';
  const where = `${line.bundle}${line.operationId === undefined ? '' : `/${line.operationId}`}`;
  const fields = line.fields === undefined ? '' : ` ${JSON.stringify(line.fields)}`;
  const call = line.callId === undefined ? '' : `  ${terminal.paint('dim', line.callId)}`;
  const lost =
    line.dropped === undefined ? '' : terminal.paint('yellow', ` (${line.dropped} lines before it were lost)`);
  return `${time} ${terminal.paint(style, line.level.padEnd(5))} ${where}  ${line.message}${fields}${call}${lost}`;
}

const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `10m` → the time ten minutes ago in ISO 8601; ISO 8601 as it is. */
export function parseSince(text: string, _before?: unknown, nowMs = Date.now()): string {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (count !== undefined)
    return new Date(nowMs - Number(count) * UNITS_MS[unit as keyof typeof UNITS_MS]).toISOString();
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('It is neither like 10m, 2h, 1d nor ISO 8601.');
  return time.toISOString();
}
