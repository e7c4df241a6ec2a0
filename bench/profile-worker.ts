import { join } from 'node:path';
import { createLog } from '../core/log.ts';
import { Child } from '../runner/isolate/child.ts';
import type { IsolateKind } from '../runner/isolate/isolate.ts';
import { findWalls, launchProgram } from '../runner/isolate/launch.ts';
import { MemoryWatch } from '../runner/isolate/memory-watch.ts';
import { ProcessWorker } from '../runner/isolate/process-worker.ts';
import { batchedPerS, openWorker } from './measures/isolate.ts';
import { root } from './processes.ts';

const MEMORY_MB = 512;
const START_MS = 30_000;

/**
 * Writes `worker.cpuprofile`: a worker of `process` without its walls, since a real one may write no file and be looked
 * into by nobody.
 */
export async function profileWorker(folder: string, seconds: number): Promise<void> {
  const test = await openWorker(openKind(folder));
  await batchedPerS(test, seconds);
  await test.worker.close();
}

function openKind(folder: string): IsolateKind {
  const insideDir = join(root, 'dist/inside');
  const log = createLog({ level: 'error', role: 'bench' });
  return {
    name: 'process',
    async start(spec, events) {
      const walls = await findWalls();
      const profile = ['--cpu-prof', `--cpu-prof-dir=${folder}`, '--cpu-prof-name=worker.cpuprofile'];
      const flags = ['--disallow-code-generation-from-strings', '--frozen-intrinsics', '--disable-proto=delete'];
      const command = [process.execPath, ...profile, ...flags, '--no-warnings', join(insideDir, 'host.cjs')];
      const program = launchProgram(walls, command, {
        cwd: insideDir,
        stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
        niceness: 0,
      });
      const child = new Child(program, MEMORY_MB, START_MS, walls);
      const worker = new ProcessWorker({ child, spec, events, watch: new MemoryWatch(), log });
      await worker.started;
      return worker;
    },
  };
}
