import { createRequire } from 'node:module';
import { join } from 'node:path';
import { FuncatronError } from '../../core/errors.ts';
import { Child } from './child.ts';
import type { IsolateKind } from './isolate.ts';
import { type HostProgram, launch, type Walls } from './launch.ts';
import { MemoryWatch } from './memory-watch.ts';
import { findInside, openWalls, type ProcessIsolateOptions, refuseUnbuilt } from './process.ts';
import { ProcessWorker } from './process-worker.ts';
import { startError } from './start-failure.ts';
import { findJail, type Jail, probeWalls, refuseOpenWalls } from './strict-walls.ts';

/** What a worker is started with, once the walls were found to hold. */
interface Fortress {
  readonly walls: Walls;
  readonly jail: Jail;
  readonly addonFile: string;
}

const HOST = 'host-strict.cjs';

/**
 * The isolate `strict`: the guest runs in a V8 isolate of its own (isolated-vm) inside a child like that of `process`, which
 * besides has another uid and its own network, process and IPC namespaces. Before the first worker it tries its own walls
 * from inside, and refuses to start any worker where one is open: no option allows that.
 */
export function createStrictIsolate(options: Omit<ProcessIsolateOptions, 'allowWeakIsolation'>): IsolateKind {
  const { log, insideDir = findInside(), niceness = 10 } = options;
  const watch = new MemoryWatch();
  let fortress: Promise<Fortress> | undefined;

  async function openFortress(): Promise<Fortress> {
    const addonFile = findAddon();
    const walls = await openWalls(log);
    const jail = await findJail(walls);
    await refuseOpenWalls(probeWalls(walls, insideDir, hostProgram(addonFile, 64, jail())));
    return { walls, jail, addonFile };
  }

  return {
    name: 'strict',
    async start(spec, events) {
      refuseUnbuilt(insideDir, HOST);
      fortress ??= openFortress();
      const { walls, jail, addonFile } = await fortress;
      try {
        const { memoryMb } = spec;
        const program = hostProgram(addonFile, memoryMb, jail());
        const child = new Child(
          launch(walls, insideDir, memoryMb, niceness, program),
          memoryMb,
          spec.startTimeoutMs,
          walls,
        );
        try {
          await child.up;
        } catch (cause) {
          child.end('killed', 'it did not come up');
          await child.exited;
          throw cause;
        }
        const worker = new ProcessWorker({ child, spec, events, watch, log });
        await worker.started;
        return worker;
      } catch (cause) {
        throw startError(spec, cause);
      }
    },
  };
}

/** The child of a worker: it may load isolated-vm, and gives that permission up before it reads a frame. */
export function hostProgram(addonFile: string, memoryMb: number, jail: readonly string[]): HostProgram {
  return { name: HOST, allow: 'addons', reads: [addonFile], args: [addonFile, String(memoryMb)], jail };
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
