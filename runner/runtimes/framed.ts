import type { StdioOptions } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Runtime } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { Child } from '../isolate/child.ts';
import type { IsolateKind, WorkerSpec } from '../isolate/isolate.ts';
import { launchProgram, type Walls } from '../isolate/launch.ts';
import { MemoryWatch } from '../isolate/memory-watch.ts';
import { ProcessWorker } from '../isolate/process-worker.ts';
import { findInside, openWalls, refuseUnbuilt } from '../isolate/process.ts';
import { startError } from '../isolate/start-failure.ts';
import { endGroupWith } from './process-group.ts';
import { limitWords, openProgramWalls } from './program.ts';
import { logOutput } from './program-output.ts';

export interface RuntimeOptions {
  readonly log: Log;
  /** Folder of what runs inside workers; default: `dist/inside` of this package. */
  readonly insideDir?: string;
  /** Added to the priority number of every worker, so that the runner answers while they compute. */
  readonly niceness?: number;
}

/** What sets one of these runtimes apart. */
export interface FramedRuntime {
  readonly name: Runtime;
  /** The file of `insideDir` that speaks frames. */
  readonly wrapper: string;
  /**
   * Behind which walls: those of programs, whose process table ends with them, or those of the js isolate, whose memory is
   * measured before it is limited, because Node reserves much more than it uses.
   */
  readonly walls: 'program' | 'measured';
  /** The command line of a worker that runs a bundle. @throws INVALID_BUNDLE when this machine cannot run it */
  command(wrapper: string, spec: WorkerSpec, folder: string): readonly string[];
}

/**
 * A runtime in which a wrapper of ours loads the bundle's files and speaks the frames of the `js` isolate (channel.ts) on
 * fd 3: calls in batches, replies unopened, ping, cancel. What the bundle prints goes to its log.
 */
export function createFramedRuntime(runtime: FramedRuntime, options: RuntimeOptions): IsolateKind {
  const { log, insideDir = findInside(), niceness = 10 } = options;
  const watch = new MemoryWatch();
  const programWalls = openProgramWalls(log);
  let walls: Promise<Walls> | undefined;

  /** The words before a worker's own, for the walls of programs. */
  async function guardOf(spec: WorkerSpec): Promise<readonly string[]> {
    if (runtime.walls === 'measured') return [];
    const { guard, prlimit } = await programWalls();
    return [...guard, ...limitWords(prlimit, spec.memoryMb)];
  }

  return {
    name: runtime.name,
    async start(spec, events) {
      refuseUnbuilt(insideDir, runtime.wrapper);
      if (spec.folder === undefined) {
        throw new FuncatronError('INVALID_BUNDLE', `bundle ${spec.bundle} has no files for runtime ${runtime.name}`);
      }
      walls ??= openWalls(log);
      // Stacks and permissions name real paths.
      const [found, folder, guard] = await Promise.all([walls, realpath(spec.folder), guardOf(spec)]);
      const command = runtime.command(join(insideDir, runtime.wrapper), spec, folder);
      const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', 'pipe'];
      const program = launchProgram(found, [...guard, ...command], { cwd: folder, stdio, niceness });
      endGroupWith(program);
      logOutput(program.stdout, 'info', events, spec.logLevel);
      logOutput(program.stderr, 'warn', events, spec.logLevel);
      const child = new Child(program, spec.memoryMb, spec.startTimeoutMs, found);
      try {
        await child.up;
        const worker = new ProcessWorker({ child, spec, events, watch, log });
        await worker.started;
        return worker;
      } catch (cause) {
        child.end('killed', 'it did not start');
        throw startError(spec, cause);
      }
    },
  };
}
