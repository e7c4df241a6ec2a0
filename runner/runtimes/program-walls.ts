import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Log } from '../../core/log.ts';
import { findProgram } from '../isolate/launch.ts';
import { asUser, findUsers, type User } from '../isolate/users.ts';

/** Which walls this machine has for programs of bundles. What they stop and what not: docs/runtimes.md. */

const run = promisify(execFile);
const MiB = 1024 * 1024;
/** Beside what it works with, a program has an interpreter and stacks. */
const EXTRA_MB = 64;

const KILLED_WITH_PARENT = ['--pdeathsig', 'KILL', '--'];
const SHELL = '/bin/sh';

/**
 * Runs a command, waits for it and ends as it does, holding none of its streams: they are closed when it closes them.
 * Behind `unshare --pid` its child is the first process of a namespace, and with that one all in it are killed.
 * It is that first process too, because that is not like others: signals it does not handle do nothing to it, be they
 * SIGKILL from itself or SIGPIPE.
 */
const APART = [
  SHELL,
  '-c',
  'unset PWD OLDPWD SHLVL; exec 9<&0; "$@" <&9 9<&- & exec </dev/null >/dev/null 2>&1 3>&- 9<&-; wait $!; exit $?',
  'sh',
];

/**
 * Lays an empty folder over each one named before `--`, then runs the command after it. What was the working folder is
 * laid back, read-only, when it went with them: behind /proc/self/cwd it is still there.
 */
const HIDE = [
  SHELL,
  '-c',
  `cwd=$PWD
while [ "$1" != -- ]; do
  [ ! -d "$1" ] || /bin/mount -t tmpfs -o mode=755,size=64k,nosuid,nodev none "$1" || exit
  shift
done
shift
if [ ! -d "$cwd" ]; then
  mkdir -p "$cwd" && /bin/mount -c --bind /proc/self/cwd "$cwd" && /bin/mount -o remount,bind,ro "$cwd" || exit
fi
cd "$cwd" && exec "$@"`,
  'sh',
];

/** The words that stand before a program's own, as far as this machine has them. */
export interface ProgramWalls {
  /** Ends it with its runner and, where there are namespaces, with it everything it has started. */
  readonly guard: readonly string[];
  /** `setpriv` and `prlimit`, where they are and may do what is asked of them. */
  readonly setpriv?: string | undefined;
  readonly prlimit: string | undefined;
  /** Whether a process that left its session is killed with the others. */
  readonly catchesDaemons: boolean;
  /** Whether the folders it must not see are not there for it. */
  readonly hides?: boolean;
  /** Users for programs to run as; absent where that has to be the runner's own. */
  readonly users?: (() => User) | undefined;
}

export interface ProgramWallsOptions {
  /** Folders that programs do not see, where that can be done: the runner's data, the operator's secrets. */
  readonly hidden?: readonly string[];
  /** Files that programs must be able to read; where another user may not, they run as the runner's. */
  readonly reads?: readonly string[];
}

/** Tries what there is: a kernel or a container may forbid what is installed. */
export async function findProgramWalls({ hidden = [], reads = [] }: ProgramWallsOptions = {}): Promise<ProgramWalls> {
  const [setpriv, unshare, prlimit] = ['setpriv', 'unshare', 'prlimit'].map(findProgram);
  const limits =
    prlimit !== undefined && (await runs([prlimit, '--core=0:0', '--', '/bin/true'])) ? prlimit : undefined;
  const none: ProgramWalls = { guard: [], prlimit: limits, catchesDaemons: false };
  if (setpriv === undefined || !(await runs([setpriv, ...KILLED_WITH_PARENT, '/bin/true']))) return none;
  const readable = [SHELL, '-c', 'for file; do [ -r "$file" ] || exit 1; done', 'sh', ...reads];
  const choices = (folders: readonly string[]): readonly Namespaces[] =>
    unshare === undefined ? [] : namespacesOf(setpriv, unshare, folders);
  const namespaces = await firstThatRuns(
    choices,
    hidden.map((path) => resolve(path)),
    readable,
  );
  const guard = namespaces?.guard ?? [setpriv, '--no-new-privs', ...KILLED_WITH_PARENT];
  return {
    guard,
    setpriv: (await runs([...guard, ...asUser(setpriv), '/bin/true'])) ? setpriv : undefined,
    prlimit: limits,
    catchesDaemons: namespaces !== undefined,
    hides: namespaces?.hides === true,
    users: await findUsers((user) => runs([...guard, ...asUser(setpriv, user), ...readable])),
  };
}

/** Finds the walls once, when the first program is to be started, and says in the log what is missing. */
export function openProgramWalls(log: Log, options?: ProgramWallsOptions): () => Promise<ProgramWalls> {
  let found: Promise<ProgramWalls> | undefined;
  return () => {
    found ??= findProgramWalls(options).then((walls) => {
      const missing = missingOf(walls);
      if (missing.length > 0)
        log.warn({ missing }, 'programs of bundles are less well walled in; see docs/runtimes.md');
      return walls;
    });
    return found;
  };
}

function missingOf({ catchesDaemons, hides, users }: ProgramWalls): readonly string[] {
  const isRoot = process.getuid?.() === 0;
  return [
    ...(catchesDaemons ? [] : ['process namespaces: a program that leaves its session is not killed']),
    ...(isRoot && users === undefined
      ? ['other users (may they read this program and its Node?): programs run as root']
      : []),
    ...(hides === true || users !== undefined ? [] : ['mounts: programs can read the data folder, its token included']),
  ];
}

interface Namespaces {
  readonly guard: readonly string[];
  readonly hides: boolean;
}

/** From the best on: the later ones ask for less. A runner that is not root is root in a namespace of its own, to mount there. */
function namespacesOf(setpriv: string, unshare: string, hidden: readonly string[]): readonly Namespaces[] {
  const isRoot = process.getuid?.() === 0;
  const outer = [unshare, ...(isRoot ? [] : ['--user', '--map-root-user']), '--pid', '--'];
  const ids = [`--map-user=${process.getuid?.() ?? 0}`, `--map-group=${process.getgid?.() ?? 0}`];
  const oneself = isRoot ? [] : [unshare, '--user', ...ids, '--'];
  const choices = [[unshare, '--mount-proc', '--', ...HIDE, ...hidden, '--'], [unshare, '--mount-proc', '--'], []];
  return choices.map((inner, index) => ({
    guard: [
      setpriv,
      '--no-new-privs',
      ...KILLED_WITH_PARENT,
      ...outer,
      ...APART,
      setpriv,
      ...KILLED_WITH_PARENT,
      ...inner,
      ...oneself,
      ...APART,
    ],
    hides: index === 0,
  }));
}

/** Each is tried with a command, on a folder of ours besides, from inside of what is hidden. */
async function firstThatRuns(
  namespaces: (hidden: readonly string[]) => readonly Namespaces[],
  hidden: readonly string[],
  command: readonly string[],
): Promise<Namespaces | undefined> {
  const outside = await mkdtemp(join(tmpdir(), 'funcatron-walls-'));
  try {
    const inside = join(outside, 'inside');
    await mkdir(inside);
    for (const [index, { guard }] of namespaces([...hidden, outside]).entries()) {
      if (await runs([...guard, ...command], inside)) return namespaces(hidden)[index];
    }
    return undefined;
  } finally {
    await rm(outside, { recursive: true });
  }
}

async function runs([program = '', ...args]: readonly string[], cwd = '/'): Promise<boolean> {
  try {
    await run(program, args, { cwd, env: {} });
    return true;
  } catch {
    return false; // Not here, or not allowed.
  }
}

/** A command line behind the walls. */
export function behind(
  walls: ProgramWalls,
  command: readonly string[],
  user: User | undefined,
  memoryMb?: number,
): readonly string[] {
  const { guard, setpriv, prlimit } = walls;
  const data = ((memoryMb ?? 0) + EXTRA_MB) * MiB;
  return [
    ...guard,
    ...(setpriv === undefined ? [] : asUser(setpriv, user)),
    ...(prlimit === undefined || memoryMb === undefined ? [] : [prlimit, `--data=${data}:${data}`, '--core=0:0', '--']),
    ...command,
  ];
}
