import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { lockProcess } from './host/lock.ts';
import './strict-lock.inside.ts';

/**
 * Stands where the host of a `strict` worker stands, behind the same walls, and tries what they promise to stop, with all
 * of Node at hand: more than an attacker would find who got out of a guest. Writes what came of each attempt to fd 3.
 */
interface Target {
  readonly pid: number;
  /** Somebody listens there, on 127.0.0.1. */
  readonly port: number;
  /** May be made, if anything may. */
  readonly file: string;
}

/** Below `process.kill`, which the lock takes away. */
function signalled(pid: number): void {
  if (signal(pid, 0) !== 0) throw new Error('no such process, or not ours');
}

type Attempt = (target: Target) => unknown;

const load = createRequire(__filename);
const WAIT_MS = 1500;
const channel = new Socket({ fd: 3, readable: true, writable: true });
const signal = (process as unknown as { _kill(this: void, pid: number, signal: number): number })._kill;
const dlopen = process.dlopen.bind(process);
const binding = (process as unknown as { binding(this: void, name: string): unknown }).binding;
lockProcess();
process.on('uncaughtException', () => undefined);

const fs = load('node:fs') as typeof import('node:fs');
const net = load('node:net') as typeof import('node:net');
const [, , addonFile = ''] = process.argv;

/** Settles with `open` when the emitter says `event`, rejects with its error. */
async function whether(emitter: NodeJS.EventEmitter, event: string): Promise<void> {
  await new Promise((resolve, reject) => emitter.once(event, resolve).once('error', reject));
}

const ATTEMPTS: Readonly<Record<string, Attempt>> = {
  readFile: () => fs.readFileSync('/etc/passwd'),
  readRunner: ({ pid }) => fs.readFileSync(`/proc/${pid}/environ`),
  writeFile: ({ file }) => fs.writeFileSync(file, 'x'),
  listFolder: () => fs.readdirSync('/'),
  sqlite: ({ file }) => new (load('node:sqlite') as typeof import('node:sqlite')).DatabaseSync(file),
  spawn: () => (load('node:child_process') as typeof import('node:child_process')).execFileSync('/bin/true'),
  worker: async () => {
    const { Worker } = load('node:worker_threads') as typeof import('node:worker_threads');
    await whether(new Worker('1', { eval: true, execArgv: [] }), 'online');
  },
  addon: () => dlopen({ exports: {} }, addonFile),
  foreignAddon: () => dlopen({ exports: {} }, '/lib/x86_64-linux-gnu/libc.so.6'),
  ffi: () => (load('node:ffi') as { dlopen(name: string): unknown }).dlopen('libc.so.6'),
  inspector: () => {
    (load('node:inspector') as typeof import('node:inspector')).open(0);
  },
  wasi: () => new (load('node:wasi') as typeof import('node:wasi')).WASI({ version: 'preview1' }),
  binding: () => binding('fs'),
  heapSnapshot: ({ file }) => (load('node:v8') as typeof import('node:v8')).writeHeapSnapshot(file),
  flags: () => {
    (load('node:v8') as typeof import('node:v8')).setFlagsFromString('--allow-natives-syntax');
  },
  // oxlint-disable-next-line no-eval -- that it does nothing is what is tried
  evaluate: () => (0, eval)('1'),
  tcp: async ({ port }) => await whether(net.connect(port, '127.0.0.1'), 'connect'),
  fetch: async ({ port }) => await fetch(`http://127.0.0.1:${port}/`),
  udp: async ({ port }) => {
    const socket = (load('node:dgram') as typeof import('node:dgram')).createSocket('udp4');
    await new Promise<void>((resolve, reject) => {
      socket
        .once('error', reject)
        .send('x', port, '127.0.0.1', (error) => (error === null ? resolve() : reject(error)));
    });
  },
  dns: async () => {
    const { lookup } = load('node:dns/promises') as typeof import('node:dns/promises');
    await lookup('example.com');
  },
  // Listening on a port is no way out: Node 24 allows it, and in this network namespace nobody can connect.
  socketFile: async ({ file }) => await whether(net.createServer().listen(`${file}.sock`), 'listening'),
  // Signal 0 only asks whether a signal could be sent.
  killRunner: ({ pid }) => signalled(pid),
  killAll: () => signalled(-1),
  root: () => {
    if (process.getuid?.() !== 0) throw new Error('not root');
  },
  environment: () => {
    if (Object.keys(process.env).length === 0) throw new Error('empty');
  },
};

async function outcomeOf(attempt: Attempt, target: Target): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, WAIT_MS, 'blocked: no answer');
  });
  const run = async (): Promise<string> => {
    await attempt(target);
    return 'open';
  };
  try {
    return await Promise.race([run(), late]);
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    return `blocked: ${code ?? message}`;
  } finally {
    clearTimeout(timer);
  }
}

channel.once('data', (line: Buffer) => {
  void probe(JSON.parse(line.toString()) as Target);
});
channel.on('end', () => process.exit(0));

async function probe(target: Target): Promise<void> {
  const results: Record<string, string> = {};
  for (const [name, attempt] of Object.entries(ATTEMPTS)) results[name] = await outcomeOf(attempt, target);
  channel.end(JSON.stringify(results));
}
