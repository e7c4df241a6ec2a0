import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FuncatronError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { Child } from './child.ts';
import type { IsolateKind } from './isolate.ts';
import { findWalls, launch, type Walls } from './launch.ts';
import { MemoryWatch } from './memory-watch.ts';
import { ProcessWorker } from './process-worker.ts';
import { startError } from './start-failure.ts';
import { WarmPool } from './warm-pool.ts';

export interface ProcessIsolateOptions {
  readonly log: Log;
  /** Starts workers although this Node leaves the network open to them. */
  readonly allowWeakIsolation: boolean;
  /** Folder of the built host and guest; default: `dist/inside` of this package. */
  readonly insideDir?: string;
  /** Added to the priority number of every worker, so that the runner answers while they compute. */
  readonly niceness?: number;
  /** Processes kept ready for workers to come, from the first worker on; default: none. */
  readonly warmWorkers?: number;
}

/** What bundles have whose manifest names no `memoryMb`. A heap cannot be given another size once it is there, so only they are served by the pool. */
export const WARM_MEMORY_MB = 128;

/** From this version on `--permission` denies the network. */
const NODE_MAJOR = 26;

/**
 * The default isolate: a hardened vm context in a locked-down child process per worker (notes/isolation.md §3, protocol §5).
 * Nothing is started or looked for before the first worker.
 */
export function createProcessIsolate(options: ProcessIsolateOptions): IsolateKind {
  const { log, allowWeakIsolation, insideDir = findInside(), niceness = 10, warmWorkers = 0 } = options;
  const watch = new MemoryWatch();
  let walls: ReturnType<typeof openWalls> | undefined;
  let pool: WarmPool | undefined;
  return {
    name: 'process',
    async start(spec, events) {
      refuseWeak(allowWeakIsolation);
      refuseUnbuilt(insideDir);
      walls ??= openWalls(log);
      const found = await walls;
      pool ??= new WarmPool({
        size: warmWorkers,
        memoryMb: WARM_MEMORY_MB,
        log,
        launch: (memoryMb, upMs) => new Child(launch(found, insideDir, memoryMb, niceness), memoryMb, upMs, found),
      });
      try {
        return await pool.lend(spec.memoryMb, spec.startTimeoutMs, async (child) => {
          const worker = new ProcessWorker({ child, spec, events, watch, log });
          await worker.started;
          return worker;
        });
      } catch (cause) {
        throw startError(spec, cause);
      }
    },
    async close() {
      await pool?.close();
    },
  };
}

/** Looks for the walls this machine offers, and says in the log which it does not. */
export async function openWalls(log: Log): Promise<Walls> {
  const walls = await findWalls();
  const missing = Object.entries(walls).flatMap(([name, program]) => (program === undefined ? [name] : []));
  if (missing.length > 0) log.warn({ missing }, 'workers are less well walled in: util-linux is not installed here');
  return walls;
}

/** @throws WEAK_ISOLATION when this Node leaves the network open to workers and that is not allowed */
export function refuseWeak(isAllowed: boolean): void {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= NODE_MAJOR || isAllowed) return;
  throw new FuncatronError(
    'WEAK_ISOLATION',
    `Node ${process.versions.node} leaves the network open to workers; Node ${NODE_MAJOR} closes it`,
    {
      data: {
        hint: 'run on the Node that npm ci brings (bin/funcatron does), or allow it with --allow-weak-isolation',
      },
    },
  );
}

/** @throws INTERNAL when `file` of what runs inside workers is not there */
export function refuseUnbuilt(insideDir: string, file = 'host.cjs'): void {
  if (existsSync(join(insideDir, file))) return;
  const hint = 'run `node tools/build-inside.mjs`, as npm start and npm test do';
  throw new FuncatronError('INTERNAL', `what runs inside a worker is not built in ${insideDir}`, { data: { hint } });
}

/** The folder of what runs inside workers. From a checkout this file is runner/isolate/process.ts, compiled it is dist/runner/isolate/process.js. */
export function findInside(): string {
  const places = ['../../dist/inside', '../../inside'].map((path) => fileURLToPath(new URL(path, import.meta.url)));
  return places.find((place) => existsSync(place)) ?? places[0] ?? '';
}
