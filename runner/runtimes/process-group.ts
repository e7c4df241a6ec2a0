import type { ChildProcess } from 'node:child_process';

/** What a process wrote just before it died is still on its way when its exit is told. */
const LAST_WORDS_MS = 100;

/**
 * Ends with a program what it has started: programs may fork, and a fork that holds their pipes would keep the worker
 * from ever being gone. The program leads a process group; one that left it with `setsid` lives on, without pipes to us.
 */
export function endGroupWith(child: ChildProcess): void {
  child.once('exit', () => {
    killGroup(child.pid);
    setTimeout(() => {
      for (const stream of child.stdio) stream?.destroy();
    }, LAST_WORDS_MS);
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}
