import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { Figure } from './page.ts';
import { processTree } from './process-stat.ts';

/** What a section has written. */
export interface SectionOutcome {
  readonly lines: readonly string[];
  readonly figures: readonly Figure[];
  /** Why it has no figures, or not all of them. */
  readonly failure?: string;
}

/** A section that has said what came out ends within this time. */
const LINGER_MS = 15_000;

/**
 * Runs a program that measures a section and sends a `SectionOutcome`; what it prints goes to the error output. After
 * `limitMs` it is ended with everything it has started. Never rejects: a section that fails says so in its outcome.
 */
export async function runSection(program: string, args: readonly string[], limitMs: number): Promise<SectionOutcome> {
  const child = fork(program, args, { stdio: ['ignore', 2, 2, 'ipc'], execArgv: [] });
  const { pid = 0 } = child;
  let outcome: SectionOutcome | undefined;
  let failure: string | undefined;
  let timer = setTimeout(() => {
    failure = `not done after ${limitMs / 1_000} s`;
    killTree(pid);
  }, limitMs);
  child.once('message', (message) => {
    outcome = message as SectionOutcome;
    clearTimeout(timer);
    timer = setTimeout(() => killTree(pid), LINGER_MS);
  });
  // A message may arrive after the end of its sender, but not after that of its channel.
  const [[code, signal]] = await Promise.all([once(child, 'exit'), once(child, 'disconnect')]);
  clearTimeout(timer);
  failure ??= `its process ended with ${String(signal ?? code)}`;
  return outcome ?? { lines: [], figures: [], failure };
}

/** Programs have process groups of their own, and are not all bound to the life of whoever started them. */
function killTree(pid: number): void {
  for (const each of processTree(pid).toReversed()) {
    try {
      process.kill(each, 'SIGKILL');
    } catch {
      // it ended meanwhile
    }
  }
}
