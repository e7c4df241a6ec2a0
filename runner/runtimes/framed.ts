import type { StdioOptions } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Runtime } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { Child } from '../isolate/child.ts';
import type { IsolateKind, WorkerEvents, WorkerSpec } from '../isolate/isolate.ts';
import { launchProgram, type Walls } from '../isolate/launch.ts';
import { MemoryWatch } from '../isolate/memory-watch.ts';
import { ProcessWorker } from '../isolate/process-worker.ts';
import { findInside, openWalls, refuseUnbuilt } from '../isolate/process.ts';
import { startError } from '../isolate/start-failure.ts';
import { type Home, Homes } from './homes.ts';
import { endGroupWith } from './process-group.ts';
import { logOutput } from './program-output.ts';
import { behind, openProgramWalls, type ProgramWalls } from './program-walls.ts';
import { folderOf } from './start-command.ts';

export interface RuntimeOptions {
  readonly log: Log;
  /** Folder of what runs inside workers; default: `dist/inside` of this package. */
  readonly insideDir?: string;
  /** Added to the priority number of every worker, so that the runner answers while they compute. */
  readonly niceness?: number;
  /** Folders that workers do not see, where that can be done. */
  readonly hidden?: readonly string[];
}

/** What sets one of these runtimes apart. */
export interface FramedRuntime {
  readonly name: Runtime;
  /** The file of `insideDir` that speaks frames. */
  readonly wrapper: string;
  /** Whether its memory is limited from the start, or beyond what is measured when it is up: Node reserves much more than it uses. */
  readonly memory: 'limited' | 'measured';
  /** Files it reads beside the wrapper and the bundle's, for whoever it runs as. */
  reads(insideDir: string): readonly string[];
  /** What to do about errors that newcomers meet, by what the errors say. */
  readonly hints: readonly (readonly [RegExp, string])[];
  /** Default: empty. */
  environment?(home: Home): Readonly<Record<string, string>>;
  /** The command line of a worker that runs a bundle. @throws INVALID_BUNDLE when this machine cannot run it */
  command(wrapper: string, spec: WorkerSpec, folder: string): readonly string[];
}

/**
 * A runtime in which a wrapper of ours loads the bundle's files and speaks the frames of the `js` isolate (channel.ts) on
 * fd 3: calls in batches, replies unopened, ping, cancel. What the bundle prints goes to its log.
 */
export function createFramedRuntime(runtime: FramedRuntime, options: RuntimeOptions): IsolateKind {
  const { log, insideDir = findInside(), niceness = 10, hidden = [] } = options;
  const watch = new MemoryWatch();
  const homes = new Homes(log);
  const wrapper = join(insideDir, runtime.wrapper);
  const openGuard = openProgramWalls(log, { hidden, reads: [wrapper, ...runtime.reads(insideDir)] });
  let walls: Promise<Walls> | undefined;

  async function openHome(spec: WorkerSpec): Promise<[Home, ProgramWalls]> {
    const guard = await openGuard();
    return [await homes.open(folderOf(spec), guard.users), guard];
  }

  return {
    name: runtime.name,
    async start(spec, events) {
      refuseUnbuilt(insideDir, runtime.wrapper);
      walls ??= openWalls(log);
      const [found, [home, guard]] = await Promise.all([walls, openHome(spec)]);
      try {
        // Stacks and permissions name real paths.
        const folder = await realpath(home.folder);
        const limitMb = runtime.memory === 'limited' ? spec.memoryMb : undefined;
        const command = behind(guard, runtime.command(wrapper, spec, folder), home.user, limitMb);
        const environment = runtime.environment?.(home) ?? {};
        const program = launchProgram(found, command, { cwd: folder, stdio: STDIO, niceness, environment, jail: [] });
        endGroupWith(program);
        logOutput(program.stdout, 'info', events, spec.logLevel);
        logOutput(program.stderr, 'warn', events, spec.logLevel);
        const limits = runtime.memory === 'limited' ? { ...found, prlimit: undefined } : found;
        const child = new Child(program, spec.memoryMb, spec.startTimeoutMs, limits);
        void child.exited.then(() => home.close());
        return await load(child, spec, events);
      } catch (error) {
        await home.close();
        throw error;
      }
    },
    close: () => homes.close(),
  };

  async function load(child: Child, spec: WorkerSpec, events: WorkerEvents): Promise<ProcessWorker> {
    try {
      await child.up;
      const worker = new ProcessWorker({ child, spec, events, watch, log });
      await worker.started;
      return worker;
    } catch (cause) {
      child.end('killed', 'it did not start');
      await child.exited;
      throw withHint(startError(spec, cause), runtime.hints);
    }
  }
}

function withHint(error: FuncatronError, hints: FramedRuntime['hints']): FuncatronError {
  const [, hint] = hints.find(([pattern]) => pattern.test(error.message)) ?? [];
  if (hint === undefined || error.data.hint !== undefined) return error;
  return new FuncatronError('DEPLOY_FAILED', error.message, { cause: error, data: { ...error.data, hint } });
}

/** Output goes to the log; frames on fd 3. */
const STDIO: StdioOptions = ['ignore', 'pipe', 'pipe', 'pipe'];
