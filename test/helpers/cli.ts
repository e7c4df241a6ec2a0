import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { until } from './until.ts';

const root = join(import.meta.dirname, '../..');
const bin = join(root, 'bin/funcatron');

/** How a run of the command line ended. */
export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  /** Added to a bare environment: nothing of this machine's settings comes in. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: string;
  /** The Node that starts `bin/funcatron`; default: this one. */
  readonly node?: string;
}

/** Runs `funcatron <args>` to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const running = startCli(args, options);
  running.child.stdin?.end(options.input ?? '');
  const code = await running.ended;
  return { code, stdout: running.stdout(), stderr: running.stderr() };
}

/** A command that goes on until it is told to stop. */
export interface RunningCli {
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Settles with the exit code; `null` when a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Waits until stdout or stderr matches, and gives the first group (or the match). */
  says(pattern: RegExp): Promise<string>;
}

/** Starts `funcatron <args>`. */
export function startCli(
  args: readonly string[],
  { env = {}, cwd = root, node = process.execPath }: CliOptions = {},
): RunningCli {
  const child = spawn(node, [bin, ...args], {
    cwd,
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', NO_COLOR: '1', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    async says(pattern) {
      const find = (): RegExpExecArray | null => pattern.exec(stdout) ?? pattern.exec(stderr);
      await until(`${args.join(' ')} says ${pattern}`, () => find() !== null || child.exitCode !== null, 20_000);
      const found = find();
      if (found === null)
        throw new Error(`${args.join(' ')} ended (${child.exitCode}) without ${pattern}:\n${stdout}${stderr}`);
      return found[1] ?? found[0];
    },
  };
}
