import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { FuncatronError } from '../../core/errors.ts';
import { within } from '../../core/lifecycle.ts';
import { findProgram, type HostProgram, launch, type Walls } from './launch.ts';
import { asUser, findUsers, type User } from './users.ts';

const PROBE_MS = 30_000;

/** Puts a command behind namespaces of its own, and another uid where it may; each call another uid of the range. */
export type Jail = () => readonly string[];

/** What this machine has beside `--permission`. @throws WEAK_ISOLATION when it has no namespaces for us, with its own words for that */
export async function findJail({ setpriv }: Walls): Promise<Jail> {
  const unshare = findProgram('unshare');
  if (unshare === undefined || setpriv === undefined)
    throw noNamespaces('there is no unshare or setpriv of util-linux');
  let why = '';
  const works = async (command: readonly string[]): Promise<boolean> => {
    const failure = await failureOf([...command, process.execPath, '--version']);
    why = failure ?? why;
    return failure === undefined;
  };
  const outer = [setpriv, '--pdeathsig', 'KILL', '--no-new-privs', '--', unshare];
  const spaces = ['--net', '--pid', '--ipc', '--fork', '--kill-child'];
  const as = (user: User): string[] => [...outer, ...spaces, ...asUser(setpriv, user)];
  const users = await findUsers((user) => works(as(user)));
  if (users !== undefined) return () => as(users());
  const own = [...outer, '--user', '--map-current-user', ...spaces, ...asUser(setpriv)];
  // A root that may do none of this would stay root to the files of the machine.
  if (process.getuid?.() !== 0 && (await works(own))) return () => own;
  throw noNamespaces(why);
}

/** What a command says when it fails; `undefined` when it does not. */
async function failureOf([program = '', ...args]: readonly string[]): Promise<string | undefined> {
  try {
    await promisify(execFile)(program, args, { env: {} });
    return undefined;
  } catch (thrown) {
    const { stderr = '', message = '' } = thrown as { stderr?: string; message?: string };
    return (stderr.trim() || message).slice(0, 200);
  }
}

function noNamespaces(why: string): FuncatronError {
  const walls = 'another uid and network, process and IPC namespaces';
  return new FuncatronError(
    'WEAK_ISOLATION',
    `isolation strict cannot keep its promises here; open: ${walls} (${why})`,
    {
      data: {
        hint: 'install util-linux, run as root or allow user namespaces, and let other users read this program and its Node',
      },
    },
  );
}

/** What came of every attempt to get through the walls, by name: `open`, or `blocked: …`. */
export async function probeWalls(
  walls: Walls,
  insideDir: string,
  host: HostProgram,
): Promise<Readonly<Record<string, string>>> {
  const folder = await mkdtemp(join(tmpdir(), 'funcatron-probe-'));
  const server = createServer((socket) => socket.end('HTTP/1.1 204 No Content\r\n\r\n')).listen(0, '127.0.0.1');
  const child = launch(walls, insideDir, 64, 0, { ...host, name: 'strict-probe.cjs' });
  try {
    const channel = child.stdio[3];
    if (!(channel instanceof Socket)) throw new Error('the probe has no socket on fd 3');
    await new Promise((resolve) => {
      if (server.listening) resolve(undefined);
      else server.once('listening', resolve);
    });
    const { port } = server.address() as AddressInfo;
    channel.write(JSON.stringify({ pid: process.pid, port, file: join(folder, 'made') }));
    const answer = await within(text(channel), PROBE_MS, `the probe took longer than ${PROBE_MS} ms`);
    return JSON.parse(answer) as Record<string, string>;
  } finally {
    child.kill('SIGKILL');
    server.close();
    await rm(folder, { recursive: true });
  }
}

/** @throws WEAK_ISOLATION naming every wall that is open */
export async function refuseOpenWalls(results: Promise<Readonly<Record<string, string>>>): Promise<void> {
  let found: Readonly<Record<string, string>>;
  try {
    found = await results;
  } catch (cause) {
    throw new FuncatronError('WEAK_ISOLATION', 'isolation strict could not probe its walls', { cause });
  }
  const open = Object.keys(found).filter((name) => found[name]?.startsWith('blocked') !== true);
  if (open.length === 0) return;
  const message = `isolation strict cannot keep its promises here; open: ${open.join(', ')}`;
  throw new FuncatronError('WEAK_ISOLATION', message);
}
