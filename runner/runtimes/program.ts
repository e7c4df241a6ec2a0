import { type ChildProcess, spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import type { User } from '../isolate/users.ts';
import { endGroupWith } from './process-group.ts';
import { behind, type ProgramWalls } from './program-walls.ts';

const NICENESS = 10;

export interface ProgramOptions {
  readonly walls: ProgramWalls;
  readonly command: readonly string[];
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly memoryMb: number;
  /** It runs as; default: as the runner does. */
  readonly user?: User | undefined;
}

/**
 * Starts a program in the bundle's folder, in a session of its own: stdin, stdout and stderr are pipes, nothing else of
 * the runner's is open in it. When it exits, its process group is killed, and where the machine has process namespaces
 * everything it ever started.
 */
export function startProgram(options: ProgramOptions): ChildProcess {
  const { walls, command, folder, environment, memoryMb, user } = options;
  const [program = '', ...args] = behind(walls, command, user, memoryMb);
  const child = spawn(program, args, { cwd: folder, env: environment, stdio: 'pipe', detached: true });
  // EPIPE is how its end looks from here; its exit is told by the process.
  child.stdin.on('error', () => undefined);
  child.stdout.on('error', () => undefined);
  lowerPriority(child.pid);
  endGroupWith(child);
  return child;
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

/** Kills a program and its process group. One that has exited is left alone: its id may be another's by now. */
export function killProgram({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
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
