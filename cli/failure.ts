import { CommanderError } from 'commander';
import { type ErrorCode, type FuncatronError, type Problem, toFuncatronError } from '../core/errors.ts';
import type { Terminal } from './terminal.ts';

/** What the process ends with; documented in `funcatron --help`. */
export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3, refused: 4, interrupted: 130 } as const;

/** Codes that mean "it is not there, try again later". */
const UNREACHABLE: readonly ErrorCode[] = ['TRON_DOWN', 'BROKER_DOWN', 'STORE_DOWN', 'NO_LEADER', 'SHUTTING_DOWN'];

/** What to do here about errors whose own hint is for programs. */
const OWN_HINTS: Partial<Record<ErrorCode, string>> = {
  UNAUTHENTICATED:
    'pass --token, set FUNCATRON_TOKEN, or name the data folder of that tron (`.funcatron` where it was started): --data <path>',
};

/** What to do next about errors that carry no hint of their own. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  DEPLOY_IN_PROGRESS: 'wait until the other deploy has ended, then run this again',
  ROUTE_CONFLICT: 'give one of the two bundles another base path, or remove the other one with `funcatron rm`',
  STORE_DOWN: 'check that the store runs: `funcatron doctor`',
  BROKER_DOWN: 'check that the broker runs: `funcatron doctor`',
  NO_LEADER: 'a new one is elected within seconds: run this again',
  DEPLOY_FAILED: 'look at `funcatron logs`; the revision before goes on serving',
  NOT_FOUND:
    '`funcatron ls` lists the bundles, `funcatron describe <bundle>` its operations, `funcatron versions <bundle>` its revisions',
  NO_ROUTE: 'a frontend answers there; the management API has a port of its own, 8081 by default: --tron-url',
  INTERNAL: 'this is a defect in funcatron: please report it with the lines above',
};

/** The exit code of a failure. */
export function exitCodeOf(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const error = toFuncatronError(thrown);
  if (error.code === 'INVALID_CONFIG') return EXIT.usage;
  if (UNREACHABLE.includes(error.code)) return EXIT.unreachable;
  return error.status >= 400 && error.status < 500 ? EXIT.refused : EXIT.failed;
}

/** Prints a failure: what went wrong, every problem with its place, and what to do next. */
export function printFailure(terminal: Terminal, thrown: unknown): void {
  // commander has written its own line already.
  if (thrown instanceof CommanderError) return;
  const error = toFuncatronError(thrown);
  terminal.say(`${terminal.paint('red', 'error')}: ${error.message} ${terminal.paint('dim', `[${error.code}]`)}`);
  for (const problem of error.data.problems ?? []) printProblem(terminal, problem);
  if (error.code === 'INTERNAL' && error.cause instanceof Error) {
    terminal.say(terminal.paint('dim', error.cause.stack ?? ''));
  }
  const hint = hintOf(error);
  if (hint !== undefined) terminal.say(`  → ${hint}`);
}

/** What to do next, in the words of the command line. */
export function hintOf({ code, data }: FuncatronError): string | undefined {
  const own = data.problems === undefined ? HINTS[code] : undefined;
  // A hint that names a request is for callers of the management API.
  const given = own !== undefined && data.hint?.includes('/v1/') ? undefined : data.hint;
  return OWN_HINTS[code] ?? given ?? own;
}

/** `  funcatron.yaml:12:5  message (#/paths/…)` and below it what to do; a request's problem begins with its pointer. */
export function printProblem(terminal: Terminal, problem: Problem): void {
  const { file, line, column, pointer } = problem;
  const place = file === undefined ? pointer : [file, line, column].filter((part) => part !== undefined).join(':');
  const detail = file === undefined || pointer === undefined ? '' : terminal.paint('dim', ` (${pointer})`);
  terminal.say(`  ${place === undefined ? '' : `${terminal.paint('bold', place)}  `}${problem.message}${detail}`);
  if (problem.hint !== undefined) terminal.say(`    → ${problem.hint}`);
}
