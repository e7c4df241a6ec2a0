import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Log } from '../../core/log.ts';
import { endGroupWith } from './process-group.ts';

/** How a program of a bundle is started, and which walls it runs behind. What they stop and what not: docs/runtimes.md. */

const run = promisify(execFile);
const MiB = 1024 * 1024;
/** Beside what it works with, a program has an interpreter and stacks. */
const EXTRA_MB = 64;
const NICENESS = 10;
const FOLDERS = ['/usr/bin', '/bin', '/usr/local/bin'];

const KILLED_WITH_RUNNER = ['--pdeathsig', 'KILL', '--no-new-privs', '--'];
/** A process table of its own, which ends with its first process, with all that is in it, be it in other sessions. */
const OWN_PROCESSES = ['--pid', '--fork', '--kill-child=KILL'];
/** From the best on; the last ones are for a runner that is not root. */
const NAMESPACES: readonly (readonly string[])[] = [
  [...OWN_PROCESSES, '--mount-proc', '--'],
  [...OWN_PROCESSES, '--'],
  ['--user', '--map-current-user', ...OWN_PROCESSES, '--mount-proc', '--'],
  ['--user', '--map-current-user', ...OWN_PROCESSES, '--'],
];

/**
 * The first process of a namespace is not like others: signals it does not handle do nothing to it, be they SIGKILL from
 * itself or SIGPIPE. So a shell is the first, and ends with its program; `exit` keeps it from becoming the program.
 */
const FIRST_PROCESS = ['/bin/sh', '-c', '"$@"; exit $?', 'sh'];

/** The words that stand before a program's own, as far as this machine has them. */
export interface ProgramWalls {
  readonly guard: readonly string[];
  /** `prlimit`, where it is. */
  readonly prlimit: string | undefined;
  /** Whether a process that left its session is killed with the others. */
  readonly catchesDaemons: boolean;
}

/** Tries what there is: a kernel or a container may forbid what is installed. */
export async function findProgramWalls(): Promise<ProgramWalls> {
  const [setpriv, unshare, prlimit] = ['setpriv', 'unshare', 'prlimit'].map(findProgram);
  const killed = await firstThatRuns(setpriv, [KILLED_WITH_RUNNER]);
  const namespace = await firstThatRuns(unshare, NAMESPACES);
  const limited = await firstThatRuns(prlimit, [['--core=0:0', '--']]);
  return {
    guard: [...killed, ...namespace, ...(namespace.length > 0 ? FIRST_PROCESS : [])],
    prlimit: limited.length === 0 ? undefined : prlimit,
    catchesDaemons: namespace.length > 0,
  };
}

/** Finds the walls once, when the first program is to be started, and says in the log what is missing. */
export function openProgramWalls(log: Log): () => Promise<ProgramWalls> {
  let found: Promise<ProgramWalls> | undefined;
  return () => {
    found ??= findProgramWalls().then((walls) => {
      if (!walls.catchesDaemons)
        log.warn('no process namespaces here: a program that leaves its session is not killed');
      return walls;
    });
    return found;
  };
}

function findProgram(name: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

async function firstThatRuns(program: string | undefined, choices: readonly (readonly string[])[]): Promise<string[]> {
  if (program === undefined) return [];
  for (const choice of choices) {
    try {
      await run(program, [...choice, process.execPath, '--version'], { env: {} });
      return [program, ...choice];
    } catch {
      // Not here; the next choice asks for less.
    }
  }
  return [];
}

export interface ProgramOptions {
  readonly walls: ProgramWalls;
  readonly command: readonly string[];
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly memoryMb: number;
}

/**
 * Starts a program in the bundle's folder, in a session of its own: stdin, stdout and stderr are pipes, nothing else of
 * the runner's is open in it. When it exits, its process group is killed, and where the machine has process namespaces
 * everything it ever started.
 */
export function startProgram(options: ProgramOptions): ChildProcess {
  const { walls, command, folder, environment, memoryMb } = options;
  const [program = '', ...args] = [...walls.guard, ...limitWords(walls.prlimit, memoryMb), ...command];
  const child = spawn(program, args, { cwd: folder, env: environment, stdio: 'pipe', detached: true });
  // EPIPE is how its end looks from here; its exit is told by the process.
  child.stdin.on('error', () => undefined);
  child.stdout.on('error', () => undefined);
  lowerPriority(child.pid);
  endGroupWith(child);
  return child;
}

/** The words before a program's own that limit the data of every process it consists of. */
export function limitWords(prlimit: string | undefined, memoryMb: number): readonly string[] {
  const data = (memoryMb + EXTRA_MB) * MiB;
  return prlimit === undefined ? [] : [prlimit, `--data=${data}:${data}`, '--core=0:0', '--'];
}

/** At once: what it starts later inherits its niceness. */
function lowerPriority(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    setPriority(pid, Math.min(NICENESS, constants.priority.PRIORITY_LOW));
  } catch {
    // Already gone: its exit says why.
  }
}

/** Kills a program and its process group. */
export function killProgram({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}

/** How a program ended, in words for a log. */
export function endOf(code: number | null, signal: string | null): string {
  if (signal !== null) return `it died of ${signal}`;
  // What a shell says of a program that a signal ended.
  return code !== null && code > 128 ? `it died of signal ${code - 128}` : `it ended with exit code ${code}`;
}
