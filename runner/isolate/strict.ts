import { createRequire } from 'node:module';
import { join } from 'node:path';
import { FuncatronError } from '../../core/errors.ts';
import { Child } from './child.ts';
import type { IsolateKind } from './isolate.ts';
import { type HostProgram, launch } from './launch.ts';
import { MemoryWatch } from './memory-watch.ts';
import { findInside, openWalls, type ProcessIsolateOptions, refuseUnbuilt, WARM_MEMORY_MB } from './process.ts';
import { ProcessWorker } from './process-worker.ts';
import { startError } from './start-failure.ts';
import { findJail, probeWalls, refuseOpenWalls } from './strict-walls.ts';
import { WarmPool } from './warm-pool.ts';

const HOST = 'host-strict.cjs';
/** Of the isolate around the guest's, whose garbage is bytes on their way: the less of it lies, the sooner it is used again. */
const HEAP = ['--max-old-space-size=64', '--max-semi-space-size=1'];
/**
 * What a process with two isolates has beside the guest's heap: what each has let go of and not collected yet, as neither
 * sees how little memory the other leaves. Bodies of 4 KB at 10 000 calls/s came to 230 MB and stayed there.
 */
const BESIDE_MB = 256;

/**
 * The isolate `strict`: the guest runs in a V8 isolate of its own (isolated-vm) inside a child like that of `process`, which
 * besides has another uid and its own network, process and IPC namespaces. Before the first worker it tries its own walls
 * from inside, and refuses to start any worker where one is open: no option allows that.
 */
export function createStrictIsolate(options: Omit<ProcessIsolateOptions, 'allowWeakIsolation'>): IsolateKind {
  const { log, insideDir = findInside(), niceness = 10, warmWorkers = 0 } = options;
  const watch = new MemoryWatch();
  let pool: Promise<WarmPool> | undefined;

  /** Once the walls were found to hold. */
  async function openPool(): Promise<WarmPool> {
    const addonFile = findAddon();
    const walls = await openWalls(log);
    const jail = await findJail(walls);
    await refuseOpenWalls(probeWalls(walls, insideDir, hostProgram(addonFile, 64, jail())));
    return new WarmPool({
      size: warmWorkers,
      memoryMb: WARM_MEMORY_MB,
      log,
      launch(memoryMb, upMs) {
        const program = hostProgram(addonFile, memoryMb, jail());
        return new Child(launch(walls, insideDir, memoryMb, niceness, program), memoryMb, upMs, walls, BESIDE_MB);
      },
    });
  }

  return {
    name: 'strict',
    async start(spec, events) {
      refuseUnbuilt(insideDir, HOST);
      pool ??= openPool();
      const opened = await pool;
      try {
        return await opened.lend(spec.memoryMb, spec.startTimeoutMs, async (child) => {
          const worker = new ProcessWorker({ child, spec, events, watch, log, besideMb: BESIDE_MB });
          await worker.started;
          return worker;
        });
      } catch (cause) {
        throw startError(spec, cause);
      }
    },
    async close() {
      // What kept it from opening was told to who started a worker.
      const opened = await pool?.catch(() => undefined);
      await opened?.close();
    },
  };
}

/** The child of a worker: it may load isolated-vm, and gives that permission up before it reads a frame. */
export function hostProgram(addonFile: string, memoryMb: number, jail: readonly string[]): HostProgram {
  return { name: HOST, allow: 'addons', reads: [addonFile], flags: HEAP, args: [addonFile, String(memoryMb)], jail };
}

/** The binary of isolated-vm for this Node; it comes with the package. */
export function findAddon(): string {
  const require = createRequire(import.meta.url);
  try {
    const folder = join(require.resolve('isolated-vm'), '..');
    const { path } = createRequire(require.resolve('isolated-vm'))('node-gyp-build') as {
      path(this: void, folder: string): string;
    };
    return path(folder);
  } catch (cause) {
    throw new FuncatronError(
      'WEAK_ISOLATION',
      'isolation strict needs isolated-vm, which is not installed for this Node',
      {
        cause,
      },
    );
  }
}
