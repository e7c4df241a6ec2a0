import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';

/** What a process wrote just before it died is still on its way when its exit is told. */
const LAST_WORDS_MS = 100;
/** More than the system keeps of what nobody has read. */
const PIPE_BYTES = 1024 * 1024;

/**
 * Ends with a program what it has started: programs may fork, and a fork that holds their pipes would keep the worker
 * from ever being gone. The program leads a process group; one that left it with `setsid` lives on, without pipes to us.
 */
export function endGroupWith(child: ChildProcess): void {
  child.once('exit', () => {
    killGroup(child.pid);
    for (const pipe of child.stdio) if (pipe instanceof Socket) endSoon(pipe, pipe.bytesRead + PIPE_BYTES);
  });
}

/**
 * Ends a pipe when nothing comes out of it any more. One that is not being read, because its reader has no room, may hold
 * more; one out of which more comes than it can hold is another program's.
 */
function endSoon(pipe: Socket, mostBytes: number): void {
  const { bytesRead } = pipe;
  setTimeout(() => {
    const mayHoldMore = pipe.isPaused() || pipe.bytesRead > bytesRead;
    if (mayHoldMore && pipe.bytesRead <= mostBytes && !pipe.destroyed) endSoon(pipe, mostBytes);
    else pipe.destroy();
  }, LAST_WORDS_MS);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}
