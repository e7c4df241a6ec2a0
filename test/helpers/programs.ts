import { execFileSync } from 'node:child_process';

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
