import { execFileSync } from 'node:child_process';
import type { Context } from 'mocha';
import { readdirSync, readFileSync } from 'node:fs';

/** Whether this machine has a program; says so loudly where it has not. */
export function hasProgram(name: string): boolean {
  try {
    execFileSync('sh', ['-c', 'command -v "$0"', name], { stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write(`SKIPPED: ${name} is not installed here\n`);
    return false;
  }
}

/** Processes of this machine that were started with this word. */
export function processesWith(word: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes(word);
    } catch {
      return false; // It ended meanwhile.
    }
  });
}

/**
 * For the `before` hook of suites that run Python: skips them loudly where there is none, and with `CI=true` fails with what
 * to install, instead of each test in its own way.
 */
export function needPython(hook: Context): void {
  if (hasProgram('python3')) return;
  if (process.env['CI'] !== 'true') return hook.skip();
  throw new Error('these tests run Python: install Python 3.9 or later (apt-get install python3)');
}
