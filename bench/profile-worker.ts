import { join } from 'node:path';
import { newId, parseId } from '../core/id.ts';
import { createLog } from '../core/log.ts';
import { CallFlag, encodeCalls } from '../core/wire/envelope.ts';
import { STREAM_CREDIT_BYTES, STREAM_FRAME_BYTES, STREAM_STEP_BYTES } from '../runner/isolate/bridge.ts';
import { FrameKind } from '../runner/isolate/channel.ts';
import { Child } from '../runner/isolate/child.ts';
import type { IsolateKind } from '../runner/isolate/isolate.ts';
import { findWalls, launchProgram } from '../runner/isolate/launch.ts';
import { MemoryWatch } from '../runner/isolate/memory-watch.ts';
import { ProcessWorker } from '../runner/isolate/process-worker.ts';
import { batchedPerS, openWorker } from './measures/isolate.ts';
import { root } from './processes.ts';

const MEMORY_MB = 512;
const START_MS = 30_000;
const HOUR_MS = 3_600_000;

/**
 * Writes `worker.cpuprofile`: a worker of `process` without its walls, since a real one may write no file and be looked
 * into by nobody.
 */
export async function profileWorker(folder: string, seconds: number): Promise<void> {
  const test = await openWorker(openKind(folder, 'worker'));
  await batchedPerS(test, seconds);
  await test.worker.close();
}

/** Writes `direct-worker.cpuprofile`: the same, through whose func a body of so many bytes passes. */
export async function profileStream(folder: string, bytes: number): Promise<void> {
  const id = parseId(newId()) ?? Buffer.alloc(16);
  const piece = Buffer.alloc(STREAM_FRAME_BYTES);
  const { promise: ended, resolve: onEnded } = Promise.withResolvers<void>();
  let left = bytes;
  let credit = STREAM_CREDIT_BYTES;
  let spent = 0;
  const worker = await openKind(folder, 'direct-worker').start(
    {
      bundle: 'bench',
      revision: '0'.repeat(12),
      source: 'exports.pass = (event) => event.stream();',
      operations: [{ operationId: 'pass', handler: 'pass', isDirect: true }],
      config: {},
      services: {},
      memoryMb: 128,
      concurrency: 100,
      stackTraces: true,
      startTimeoutMs: START_MS,
    },
    {
      onReplies: () => undefined,
      onLog: () => undefined,
      onOperation: () => Promise.reject(new Error('no operations here')),
      onExit: () => undefined,
      onStream(kind, payload) {
        if (kind === FrameKind.streamCredit) send(payload.readUInt32BE(id.length));
        else if (kind === FrameKind.streamData) take(payload.length - id.length);
        else onEnded();
      },
    },
  );
  function send(more: number): void {
    credit += more;
    for (; credit > 0 && left > 0; credit -= piece.length, left -= piece.length)
      worker.stream(FrameKind.streamData, id, piece);
    if (left === 0) worker.stream(FrameKind.streamEnd, id);
  }
  function take(taken: number): void {
    spent += taken;
    if (spent < STREAM_STEP_BYTES) return;
    const given = Buffer.alloc(4);
    given.writeUInt32BE(spent);
    spent = 0;
    worker.stream(FrameKind.streamCredit, id, given);
  }
  const call = { id, deadline: Date.now() + HOUR_MS, operation: 0, attempt: 1, meta: '', body: undefined };
  worker.send(1, encodeCalls([{ ...call, flags: CallFlag.direct | CallFlag.fetches }]), 0);
  send(0);
  await ended;
  await worker.close();
}

function openKind(folder: string, name: string): IsolateKind {
  const insideDir = join(root, 'dist/inside');
  const log = createLog({ level: 'error', role: 'bench' });
  return {
    name: 'process',
    async start(spec, events) {
      const walls = await findWalls();
      const profile = ['--cpu-prof', `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${name}.cpuprofile`];
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
