import type { ChildProcess } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { Socket } from 'node:net';
import { FuncatronError } from '../../core/errors.ts';
import { newId } from '../../core/id.ts';
import { within } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import { type LoadSpec, SEED_BYTES } from './bridge.ts';
import { Channel, FrameKind } from './channel.ts';
import type { Worker, WorkerEvents, WorkerExit, WorkerSpec } from './isolate.ts';
import { limitMemory, readMemory, residentLimit, type Walls } from './launch.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { Operations } from './operations.ts';
import { createPositionMapper, type MapPositions } from './source-position.ts';
import { startError } from './start-failure.ts';
import { Stderr } from './stderr.ts';
import { WorkerLog } from './worker-log.ts';

/** Longest frame a worker may send: replies of 1 MiB plus one, or an operation with its 8 MiB. */
const MAX_FRAME_BYTES = 16 * 1024 * 1024;
const CLOSE_MS = 2_000;

export interface ProcessWorkerOptions {
  readonly child: ChildProcess;
  readonly spec: WorkerSpec;
  readonly events: WorkerEvents;
  readonly walls: Walls;
  readonly watch: MemoryWatch;
  readonly log: Log;
}

/**
 * A worker as its runner holds it: a child process and the channel to it.
 * States: starting (hello → load → ready or failed) → serving → ended. Everything that comes from the child is input
 * from a stranger: bounded, checked, and a reason to kill the child when it makes no sense.
 */
export class ProcessWorker implements Worker {
  readonly id = newId();
  readonly pid: number;
  /** Settles when the first call can be sent; rejects with DEPLOY_FAILED after the process is gone. */
  readonly started: Promise<void>;
  readonly #options: ProcessWorkerOptions;
  readonly #channel: Channel;
  readonly #stderr: Stderr;
  readonly #operations: Operations;
  readonly #workerLog: WorkerLog;
  readonly #mapPositions: MapPositions;
  readonly #exited: Promise<WorkerExit>;
  #pings: { resolve(): void; reject(error: Error): void }[] = [];
  #onHello: () => void = () => undefined;
  #onStarted: (failure: Buffer | undefined) => void = () => undefined;
  #isServing = false;
  /** Why the process is about to end, when it is known before it does. */
  #reason: WorkerExit | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ProcessWorkerOptions) {
    const { child, spec, events } = options;
    this.#options = options;
    this.pid = child.pid ?? -1;
    this.#stderr = new Stderr(child.stderr);
    this.#mapPositions = createPositionMapper(spec.sourceMap);
    this.#exited = this.#watchExit(child);
    const socket = child.stdio[3];
    if (!(socket instanceof Socket)) throw new FuncatronError('INTERNAL', 'the worker process has no socket on fd 3');
    this.#channel = new Channel(socket, MAX_FRAME_BYTES, {
      onFrame: (kind, payload) => this.#receive(kind, payload),
      onEnd: (problem) => this.#end('crashed', problem ?? 'it closed its channel'),
    });
    this.#operations = new Operations(this.#channel, events);
    this.#workerLog = new WorkerLog(events, this.#mapPositions);
    this.started = this.#start();
    // `start` hands the rejection on; this keeps it from counting as unhandled meanwhile.
    this.started.catch(() => undefined);
  }

  get backlogBytes(): number {
    return this.#channel.backlogBytes;
  }

  send(tag: number, envelope: Buffer, clockOffsetMs: number): void {
    const head = Buffer.allocUnsafe(12);
    head.writeUInt32BE(tag, 0);
    head.writeDoubleBE(clockOffsetMs, 4);
    this.#channel.send(FrameKind.calls, head, envelope);
  }

  cancel(ids: Buffer): void {
    this.#channel.send(FrameKind.cancel, ids);
  }

  ping(): Promise<void> {
    if (this.#reason !== undefined) return Promise.reject(gone(this.#reason));
    return new Promise((resolve, reject) => {
      this.#pings.push({ resolve, reject });
      this.#channel.send(FrameKind.ping);
    });
  }

  kill(): void {
    this.#end('killed', 'it was killed');
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#reason ??= { reason: 'closed', detail: 'it was closed' };
    this.#channel.send(FrameKind.close);
    const timer = setTimeout(() => this.#options.child.kill('SIGKILL'), CLOSE_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  async #start(): Promise<void> {
    const { spec } = this.#options;
    const took = `took longer than ${spec.startTimeoutMs} ms to start`;
    try {
      await within(Promise.race([this.#load(), this.#failOnExit()]), spec.startTimeoutMs, took);
    } catch (cause) {
      this.kill();
      await this.#exited;
      throw startError(spec, cause);
    }
  }

  async #load(): Promise<void> {
    const { spec, walls, watch } = this.#options;
    await new Promise<void>((resolve) => {
      this.#onHello = resolve;
    });
    const idleBytes = readMemory(this.pid)?.residentBytes ?? 0;
    await limitMemory(walls, this.pid, spec.memoryMb);
    if (idleBytes > 0) {
      watch.add(this.pid, residentLimit(idleBytes, spec.memoryMb), (bytes) => {
        this.#end('memory', `it used ${Math.round(bytes / 2 ** 20)} MB, with memoryMb ${spec.memoryMb}`);
      });
    }
    const failure = await new Promise<Buffer | undefined>((resolve) => {
      this.#onStarted = resolve;
      this.#channel.send(FrameKind.load, ...loadFrame(spec));
    });
    if (failure !== undefined) throw startError(spec, failure, this.#mapPositions);
  }

  async #failOnExit(): Promise<never> {
    throw gone(await this.#exited);
  }

  #receive(kind: number, payload: Buffer): void {
    try {
      this.#dispatch(kind, payload);
    } catch (thrown) {
      this.#end('crashed', `it sent a frame that makes no sense: ${String(thrown)}`);
    }
  }

  #dispatch(kind: number, payload: Buffer): void {
    switch (kind) {
      case FrameKind.replies:
        return this.#options.events.onReplies(payload.readUInt32BE(0), payload.subarray(4));
      case FrameKind.op:
        return this.#operations.begin(payload);
      case FrameKind.cancel:
        return this.#operations.abandon(payload);
      case FrameKind.log:
        return this.#workerLog.write(payload);
      case FrameKind.pong:
        return this.#pings.shift()?.resolve();
      case FrameKind.hello:
        return this.#onHello();
      case FrameKind.ready:
        this.#isServing = true;
        return this.#onStarted(undefined);
      case FrameKind.failed:
        return this.#onStarted(payload);
      default:
        throw new Error(`unknown kind ${kind}`);
    }
  }

  /** Kills the process for a reason; the first one counts. */
  #end(reason: WorkerExit['reason'], detail: string): void {
    this.#reason ??= { reason, detail };
    // A worker that is closing may close its channel a moment before it exits.
    if (this.#reason.reason !== 'closed' || reason === 'killed') this.#options.child.kill('SIGKILL');
  }

  #watchExit(child: ChildProcess): Promise<WorkerExit> {
    return new Promise((resolve) => {
      child.once('error', (error) => resolve(this.#gone({ reason: 'crashed', detail: error.message })));
      // Not 'exit': what it wrote before it died is read first.
      child.once('close', (code, signal) => {
        resolve(
          this.#gone(
            this.#stderr.memoryExit() ??
              this.#reason ?? { reason: 'crashed', detail: how(code, signal, this.#stderr.lastLine()) },
          ),
        );
      });
    });
  }

  #gone(exit: WorkerExit): WorkerExit {
    const { events, watch, log, spec } = this.#options;
    this.#reason = exit;
    watch.remove(this.pid);
    this.#channel.destroy();
    this.#operations.close();
    for (const ping of this.#pings) ping.reject(gone(exit));
    this.#pings = [];
    log.debug({ bundle: spec.bundle, revision: spec.revision, pid: this.pid, ...exit }, 'worker ended');
    if (this.#isServing) events.onExit(exit);
    return exit;
  }
}

function gone({ reason, detail }: WorkerExit): Error {
  return new FuncatronError('FUNC_CRASHED', `the worker is gone (${reason}): ${detail}`);
}

function how(code: number | null, signal: string | null, lastLine: string): string {
  const end = signal === null ? `it exited with code ${code}` : `it died of ${signal}`;
  return lastLine === '' ? end : `${end} (${lastLine})`;
}

/** See `FrameKind.load`: a seed of the guest's random generator, the spec, the bundle. */
function loadFrame(spec: WorkerSpec): Buffer[] {
  const { bundle, revision, operations, config, services, stackTraces } = spec;
  const loadSpec: LoadSpec = { bundle, revision, operations, config, services, stackTraces };
  const json = Buffer.from(JSON.stringify(loadSpec));
  const head = Buffer.allocUnsafe(SEED_BYTES + 4);
  randomFillSync(head, 0, SEED_BYTES);
  head.writeUInt32BE(json.length, SEED_BYTES);
  return [head, json, Buffer.from(spec.source)];
}
