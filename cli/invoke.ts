import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { type Command, InvalidArgumentError } from 'commander';
import { PROBLEM_CONTENT_TYPE } from '../core/errors.ts';
import { openClient, toError } from './client.ts';
import { EXIT } from './failure.ts';
import { addSettings, CLIENT_SETTINGS, readSettings } from './settings.ts';
import { type Terminal, withProgress } from './terminal.ts';

interface Options extends Readonly<Record<string, unknown>> {
  readonly path?: readonly string[];
  readonly query?: readonly string[];
  readonly header?: readonly string[];
  readonly body?: string;
  readonly type: string;
  readonly revision?: string;
}

/** `funcatron invoke`: one call over the queue, without a frontend. */
export function registerInvoke(program: Command, terminal: Terminal): void {
  const command = program
    .command('invoke')
    .description('Call an operation over the queue, without a frontend.')
    .argument('<bundle>')
    .argument('<operation>', 'its operationId')
    .option('-p, --path <name=value>', 'a path parameter; may be given again', collect)
    .option('-q, --query <name=value>', 'a query parameter; may be given again', collect)
    .option('-H, --header <name=value>', 'a header; may be given again', collect)
    .option('-b, --body <text>', 'the body; @file reads a file, - reads stdin')
    .option('--type <type>', 'content type of the body', 'application/json')
    .option('--revision <revision>', 'call this revision, live or not')
    .addHelpText('after', '\nExample:\n  funcatron invoke hello greet -p name=world -q times=2');
  addSettings(command, CLIENT_SETTINGS);
  command.action((bundle: string, operation: string, options: Options) => invoke(bundle, operation, options, terminal));
}

async function invoke(bundle: string, operation: string, options: Options, terminal: Terminal): Promise<void> {
  const client = await openClient(readSettings(options));
  const headers: Record<string, string> = {
    ...prefixed('fn-path-', options.path),
    ...prefixed('fn-query-', options.query),
    ...prefixed('fn-header-', options.header),
    ...(options.revision === undefined ? {} : { 'fn-revision': options.revision }),
  };
  const body = options.body === undefined ? undefined : await readBody(options.body);
  if (body !== undefined) headers['content-type'] = options.type;
  const path = `/bundles/${encodeURIComponent(bundle)}/operations/${encodeURIComponent(operation)}/invoke`;
  const response = await withProgress(terminal, `calling ${operation}`, client.raw('POST', path, { body, headers }));
  const isProblem = response.headers.get('content-type')?.startsWith(PROBLEM_CONTENT_TYPE) === true;
  if (isProblem) throw await toError(response, client.url);
  process.stdout.write(Buffer.from(await response.arrayBuffer()));
  if (terminal.isInteractive) terminal.say('');
  if (response.ok) return;
  terminal.say(`${operation} answered ${response.status}`);
  process.exitCode = EXIT.failed;
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  if (!/^[^=]+=/.test(value)) throw new InvalidArgumentError('It must be <name>=<value>.');
  return [...before, value];
}

function prefixed(prefix: string, pairs: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => [prefix + pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
  );
}

async function readBody(text: string): Promise<Uint8Array> {
  if (text === '-') return buffer(process.stdin);
  return text.startsWith('@') ? readFile(text.slice(1)) : Buffer.from(text);
}
