import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../until.ts';

/** What to run, and where: a server that never outlives this process, even when this process is killed. */
export interface ServerCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Another Debian's root folder to run in, by chroot. */
  readonly root?: string | undefined;
  /** It forks: the whole family has to be signalled and ended. */
  readonly forks: boolean;
}

/** A running server and its family. */
export interface ServerProcess {
  /** The last lines it wrote, for the message of a failure. */
  output(): string;
  /** Why it is not running any more, or `undefined` while it is. */
  died(): string | undefined;
  /** Signals every process of it. */
  signal(signal: NodeJS.Signals): void;
  /** Signals it and waits until it is gone; SIGKILL after `graceMs`. */
  end(signal: NodeJS.Signals, graceMs: number): Promise<void>;
}

const isRoot = process.getuid?.() === 0;
const hasSetpriv = spawnSync('setpriv', ['--version']).status === 0;
const running = new Set<() => void>();
let watchesExit = false;

/**
 * Starts a server that dies with this process. As root it runs in a PID namespace whose first process is killed by
 * the kernel (`--kill-child`, `--pdeathsig`), and everything in it with it: a daemon that forks (epmd) cannot get
 * away. Elsewhere it is a process group, killed at exit. It does not keep the event loop alive.
 */
export function startServerProcess(server: ServerCommand): ServerProcess {
  const [command = '', ...args] = wrap(server);
  const child = spawn(command, args, { env: { ...server.env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString('utf8')).slice(-8_000);
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', keep);
    if ('unref' in stream && typeof stream.unref === 'function') stream.unref();
  }
  child.unref();
  let ended: string | undefined;
  const gone = new Promise<void>((resolve) => {
    child.once('error', (error) => finish(`${server.command} did not start: ${error.message}`));
    child.once('exit', (code, signal) => finish(`${server.command} ended with ${code ?? signal}:\n${output}`));
    function finish(reason: string): void {
      ended ??= reason;
      running.delete(kill);
      resolve();
    }
  });
  function signal(name: NodeJS.Signals): void {
    for (const pid of family(child)) signalPid(pid, name);
  }
  // The head of the family takes the rest along: by namespace, or by process group.
  function kill(): void {
    if (child.pid !== undefined) signalPid(server.forks && !isRoot ? -child.pid : child.pid, 'SIGKILL');
  }
  killAtExit(kill);
  return {
    output: () => output,
    died: () => ended,
    signal,
    async end(name, graceMs) {
      child.ref();
      const pids = family(child);
      if (name === 'SIGKILL') kill();
      // Not to the namespace's keeper: it would take the rest down at once.
      else for (const pid of pids.slice(server.forks && isRoot ? 1 : 0)) signalPid(pid, name);
      const timer = setTimeout(kill, graceMs);
      if (ended === undefined) await gone;
      clearTimeout(timer);
      // The head may be reaped a moment before the rest has let go of its port.
      await until(`the end of ${server.command}`, () => !pids.some(isAlive));
    },
  };
}

/** A folder for one server's data: under `root` when it runs in another root, and removed when this process ends. */
export function serverFolder(name: string, root?: string): { path: string; inside: string; remove(): void } {
  const base = join(root ?? '/', 'tmp');
  mkdirSync(base, { recursive: true });
  const path = mkdtempSync(join(base, `funcatron-${name}-`));
  const remove = (): void => {
    running.delete(remove);
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  };
  killAtExit(remove);
  return { path, inside: root === undefined ? path : path.slice(root.length), remove };
}

function wrap({ command, args, env, root, forks }: ServerCommand): string[] {
  const inner =
    root === undefined ? [command, ...args] : ['chroot', root, 'env', '-i', ...pairs(env), command, ...args];
  // `--mount-proc` makes the new /proc in a mount namespace of its own: nothing is left mounted afterwards.
  const proc = `--mount-proc=${join(root ?? '/', 'proc')}`;
  const fenced = forks && isRoot ? ['unshare', '--pid', '--fork', '--kill-child=KILL', proc, ...inner] : inner;
  return hasSetpriv ? ['setpriv', '--pdeathsig', 'KILL', ...fenced] : fenced;
}

function pairs(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).map(([key, value]) => `${key}=${value}`);
}

/** Hooks run newest first, so that a server is killed before its folder is removed. */
function killAtExit(hook: () => void): void {
  running.add(hook);
  if (watchesExit) return;
  watchesExit = true;
  process.once('exit', () => {
    for (const each of [...running].toReversed()) each();
  });
}

function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** The process and all its descendants, parents first. */
function family(child: ChildProcess): number[] {
  const pids = child.pid === undefined ? [] : [child.pid];
  for (const pid of pids) pids.push(...childrenOf(pid));
  return pids;
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return []; // it ended meanwhile
  }
}

function signalPid(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it ended meanwhile, which is what a signal is for
  }
}
