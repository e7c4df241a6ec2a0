import { type ChildProcess, execFile, spawn, type StdioOptions } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** How a worker's process is started, and how its memory is limited. What every wall costs and stops: docs/security.md. */

const run = promisify(execFile);
const MiB = 1024 * 1024;
/** Beside its heap a worker has a young generation, compiled code and buffers on their way. */
const EXTRA_BYTES = 64 * MiB;

/** util-linux, where the machine has it. Looked for in fixed places: the environment is not ours to read. */
const FOLDERS = ['/usr/bin', '/bin', '/usr/local/bin'];

/** Where a program of util-linux is; `undefined` where it is not. */
export function findProgram(name: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

const GUARD = ['--pdeathsig', 'KILL', '--no-new-privs', '--'];

/** What this machine offers beside Node itself. */
export interface Walls {
  /** Makes the kernel kill the child when its runner dies: EOF on fd 3 does not stop a loop. */
  readonly setpriv: string | undefined;
  /** Sets RLIMIT_DATA of another process. */
  readonly prlimit: string | undefined;
}

/** Looks for the programs and tries them: those of busybox have the names and not the options. */
export async function findWalls(): Promise<Walls> {
  const [setpriv, prlimit] = await Promise.all([
    tried(findProgram('setpriv'), [...GUARD, process.execPath, '--version']),
    tried(findProgram('prlimit'), ['--pid', String(process.pid), '--data']),
  ]);
  return { setpriv, prlimit };
}

/** The program, when it does with these arguments what it should. */
async function tried(program: string | undefined, args: readonly string[]): Promise<string | undefined> {
  if (program === undefined) return undefined;
  try {
    await run(program, args, { env: {} });
    return program;
  } catch {
    return undefined; // the wall is missing, which `Walls` says
  }
}

/** Modules that need no permission to do harm: `node:sqlite` opens and makes files whatever `--permission` says. Not every version of Node knows them. */
export const MODULES_OFF = ['--no-experimental-sqlite', '--no-experimental-ffi'].filter((flag) =>
  process.allowedNodeEnvironmentFlags.has(flag),
);

/** Files of `insideDir` that every host of guests reads. */
export const GUEST_FILES = ['guest.js', 'guest.cache', 'parse.cjs'];

/** What a child runs, and what more than nothing it may do. */
export interface HostProgram {
  /** Its file in `insideDir`. */
  readonly name: string;
  /** More files, or folders ending in `/*`, it may read. */
  readonly reads?: readonly string[];
  /** What `--permission` allows it beside reading. */
  readonly allow?: 'worker' | 'addons';
  /** More of Node's arguments. */
  readonly flags?: readonly string[];
  /** What `process.argv` holds from index 2 on. */
  readonly args?: readonly string[];
  /** A command that walls in the one appended to it; default: what `walls` has. */
  readonly jail?: readonly string[];
}

const PROCESS_HOST: HostProgram = { name: 'host.cjs' };

/** `--permission` denies files, processes, workers, addons, inspector and (from Node 26) the network. */
function nodeArguments(insideDir: string, memoryMb: number, host: HostProgram): string[] {
  const { name: main, reads = [], allow, flags = [], args = [] } = host;
  return [
    '--permission',
    ...[main, ...GUEST_FILES].map((name) => `--allow-fs-read=${join(insideDir, name)}`),
    ...reads.map((path) => `--allow-fs-read=${path}`),
    ...(allow === undefined ? [] : [`--allow-${allow}`]),
    '--disallow-code-generation-from-strings',
    '--frozen-intrinsics',
    '--disable-proto=delete',
    ...(allow === 'addons' ? [] : ['--no-addons']),
    ...MODULES_OFF,
    '--no-warnings',
    '--unhandled-rejections=none',
    `--max-old-space-size=${memoryMb}`,
    // One helper thread for the collector: a worker is one of many on its machine.
    '--v8-pool-size=1',
    ...flags,
    join(insideDir, main),
    ...args,
  ];
}

/**
 * Starts a worker's process: fd 3 is its only way out. A socket, so that both sides write to it; stderr is a pipe,
 * because V8 says there that it ran out of memory.
 */
export function launch(
  walls: Walls,
  insideDir: string,
  memoryMb: number,
  niceness: number,
  host = PROCESS_HOST,
): ChildProcess {
  const command = [process.execPath, ...nodeArguments(insideDir, memoryMb, host)];
  const { jail } = host;
  // Node lets every thread of a process read its working folder and all below it, whatever `--permission` says
  // [measured on 26.10]; in this one is nothing but our own code.
  const cwd = insideDir;
  return launchProgram(walls, command, { cwd, stdio: ['ignore', 'ignore', 'pipe', 'pipe'], niceness, jail });
}

export interface LaunchOptions {
  readonly cwd: string;
  readonly stdio: StdioOptions;
  /** Added to the priority number, so that the runner answers while the process computes. */
  readonly niceness: number;
  /** See `HostProgram.jail`. */
  readonly jail?: readonly string[] | undefined;
  /** Default: empty. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Starts any program for a worker: nothing of the runner's environment, a session of its own, killed with its runner where the machine can. */
export function launchProgram(walls: Walls, command: readonly string[], options: LaunchOptions): ChildProcess {
  const guard = options.jail ?? (walls.setpriv === undefined ? [] : [walls.setpriv, ...GUARD]);
  const [program = process.execPath, ...args] = [...guard, ...command];
  const { cwd, stdio, niceness, environment = {} } = options;
  const child = spawn(program, args, { cwd, env: environment, stdio, detached: true });
  if (child.pid !== undefined && niceness !== 0) lowerPriority(child.pid, niceness);
  return child;
}

/**
 * At once, while the process has one thread: those it makes later inherit its niceness. It leads a session, and where Linux
 * groups processes by session (`sched_autogroup_enabled`) niceness only counts within one: the group has its own.
 */
function lowerPriority(pid: number, niceness: number): void {
  try {
    setPriority(pid, Math.min(niceness, constants.priority.PRIORITY_LOW));
    writeFileSync(`/proc/${pid}/autogroup`, String(niceness));
  } catch {
    // Already gone: its exit says why. Or this system has no such groups.
  }
}

/** Memory of a process now, from /proc; `undefined` where there is none (not Linux, or the process is gone). */
export interface ProcessMemory {
  /** Private writable memory it has asked for: what RLIMIT_DATA counts. */
  readonly dataBytes: number;
  readonly residentBytes: number;
}

export function readMemory(pid: number): ProcessMemory | undefined {
  try {
    const status = readFileSync(`/proc/${walledIn(pid)}/status`, 'latin1');
    return { dataBytes: field(status, 'VmData'), residentBytes: field(status, 'VmRSS') };
  } catch {
    return undefined;
  }
}

/** What waits for the process it walls in, by name. */
const WALLS: readonly string[] = ['unshare', 'sh'];

/** The process itself; where that is one of a wall, the one behind it. */
function walledIn(pid: number): number {
  if (!WALLS.includes(readFileSync(`/proc/${pid}/comm`, 'latin1').trim())) return pid;
  const [child = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ');
  return child === '' ? pid : walledIn(Number(child));
}

function field(status: string, name: string): number {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status);
  return Number(found?.[1] ?? 0) * 1024;
}

/** Most resident memory of a worker that used `idleBytes` before it had a bundle. */
export function residentLimit(idleBytes: number, memoryMb: number): number {
  return idleBytes + memoryMb * MiB + EXTRA_BYTES;
}

/** What makes a command run as the user of the process: nobody else may limit it, not even a root without CAP_SYS_RESOURCE. */
function sameUser({ setpriv }: Walls, pid: number): readonly string[] {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const [uid, gid] = ['Uid', 'Gid'].map((name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]));
  if (setpriv === undefined || uid === process.getuid?.()) return [];
  return [setpriv, `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];
}

/**
 * Limits the data a process may ask for to what it has now and the bundle's budget: an ArrayBuffer too many becomes a
 * RangeError in the guest, a heap too large ends the child. Node reserves some 580 MB while idle, so the limit is measured.
 * Does nothing where the machine has no `prlimit` or no /proc.
 * @param limit `soft` may be raised again later: Node gives nobody inside a way to do so
 */
export async function limitMemory(
  walls: Walls,
  pid: number,
  memoryMb: number,
  limit: 'hard' | 'soft' = 'hard',
): Promise<void> {
  const memory = readMemory(pid);
  if (walls.prlimit === undefined || memory === undefined) return;
  const data = memory.dataBytes + memoryMb * MiB + EXTRA_BYTES;
  const hard = limit === 'hard' ? data : '';
  const target = walledIn(pid);
  const command = [walls.prlimit, '--pid', String(target), `--data=${data}:${hard}`, '--core=0:0'];
  const [program = walls.prlimit, ...args] = [...sameUser(walls, target), ...command];
  await run(program, args);
}
