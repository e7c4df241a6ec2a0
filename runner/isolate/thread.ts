import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { IsolateKind } from './isolate.ts';
import { GUEST_FILES, launch, MODULES_OFF } from './launch.ts';
import { MemoryWatch } from './memory-watch.ts';
import { findInside, openWalls, type ProcessIsolateOptions, refuseUnbuilt, refuseWeak } from './process.ts';
import { ProcessWorker } from './process-worker.ts';
import { startError } from './start-failure.ts';
import { ThreadHost } from './thread-host.ts';

const HOST = 'thread-host.cjs';
const THREAD = 'thread.cjs';
/** Heap of the shared process's own thread, which only passes bytes on. */
const HOST_MEMORY_MB = 128;
/**
 * V8 keeps the memory of a thread that has ended for those to come, 8 s and longer. The limit of the process is for those
 * that live: a new thread would be ended, with its neighbours, for what the last one had [measured on 26.10: 60 MB kept
 * of a bundle with 64]. Node 24 does not know the flag.
 */
const GIVES_BACK =
  Number(process.versions.node.split('.')[0]) < 26 ? [] : ['--no-memory-pool-share-memory-on-teardown'];

/**
 * The isolate `thread`: the same realm as `process`, in a thread of one child process that all such workers of a runner
 * share. For trusted code: a bundle that exhausts its process's memory, or gets out of its realm, is among the others.
 * The process is started with the first worker and again when it has died.
 */
export function createThreadIsolate(options: ProcessIsolateOptions): IsolateKind {
  const { log, allowWeakIsolation, insideDir = findInside(), niceness = 10 } = options;
  const watch = new MemoryWatch();
  let walls: ReturnType<typeof openWalls> | undefined;
  let host: ThreadHost | undefined;

  async function openHost(): Promise<ThreadHost> {
    walls ??= openWalls(log);
    const found = await walls;
    if (host === undefined || host.isGone) {
      const { file, folder } = findPiscina();
      const reads = [join(insideDir, THREAD), `${folder}/*`];
      const args = [file, ...threadArguments([...GUEST_FILES.map((name) => join(insideDir, name)), ...reads])];
      const program = { name: HOST, allow: 'worker', reads, args, flags: GIVES_BACK } as const;
      host = new ThreadHost({
        process: launch(found, insideDir, HOST_MEMORY_MB, niceness, program),
        walls: found,
        watch,
      });
    }
    await host.up;
    return host;
  }

  return {
    name: 'thread',
    async start(spec, events) {
      refuseWeak(allowWeakIsolation);
      refuseUnbuilt(insideDir, HOST);
      try {
        const shared = await openHost();
        const child = await shared.start(spec.memoryMb, spec.startTimeoutMs);
        const worker = new ProcessWorker({ child, spec, events, watch, log });
        await worker.started;
        return worker;
      } catch (cause) {
        throw startError(spec, cause);
      }
    },
    async close() {
      await host?.close();
    },
  };
}

/**
 * Node’s arguments for a thread. Without them it would have its process's: `--allow-worker`, and with it everything. It
 * inherits none of them, so what the process is locked down with is said again, where a thread can have it.
 */
function threadArguments(reads: readonly string[]): string[] {
  return [
    '--permission',
    ...reads.map((path) => `--allow-fs-read=${path}`),
    '--frozen-intrinsics',
    '--no-addons',
    ...MODULES_OFF,
    '--no-warnings',
    '--unhandled-rejections=none',
  ];
}

/** Where piscina is installed (its main file is dist/main.js): the child may read that folder, and cannot look for it. */
function findPiscina(): { file: string; folder: string } {
  const file = createRequire(import.meta.url).resolve('piscina');
  return { file, folder: dirname(dirname(file)) };
}
