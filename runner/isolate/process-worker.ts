import { randomFillSync } from 'node:crypto';
import { newId } from '../../core/id.ts';
import { within } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import { type LoadSpec, SEED_BYTES, STREAM_FRAME_BYTES } from './bridge.ts';
import { FrameKind } from './channel.ts';
import { gone, type WorkerChild } from './child.ts';
import type { Worker, WorkerEvents, WorkerExit, WorkerSpec } from './isolate.ts';
import { residentLimit } from './launch.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { Operations } from './operations.ts';
import { createPositionMapper, type MapPositions } from './source-position.ts';
import { startError } from './start-failure.ts';
import { WorkerLog } from './worker-log.ts';

const CLOSE_MS = 2_000;

export interface ProcessWorkerOptions {
  /** Up, and nobody else's. */
  readonly child: WorkerChild;
  readonly spec: WorkerSpec;
  readonly events: WorkerEvents;
  readonly watch: MemoryWatch;
  readonly log: Log;
  /** Resident memory it may have beside that of a process whose only heap is the guest's; 0 when absent. */
  readonly besideMb?: number;
}

/**
 * A worker as its runner holds it: a child process and the channel to it.
 * States: starting (load → ready or failed) → serving → ended. Everything that comes from the child is input
 * from a stranger: bounded, checked, and a reason to kill the child when it makes no sense.
 */
export class ProcessWorker implements Worker {
  readonly id = newId();
  readonly pid: number;
  /** Settles when the first call can be sent; rejects with DEPLOY_FAILED after the process is gone. */
  readonly started: Promise<void>;
  readonly #options: ProcessWorkerOptions;
  readonly #child: WorkerChild;
  readonly #operations: Operations;
  readonly #workerLog: WorkerLog;
  readonly #mapPositions: MapPositions;
  readonly #exited: Promise<WorkerExit>;
  #pings: { resolve(): void; reject(error: Error): void }[] = [];
  #onStarted: (failure: Buffer | undefined) => void = () => undefined;
  #isServing = false;
  #closing: Promise<void> | undefined;

  constructor(options: ProcessWorkerOptions) {
    const { child, spec, events } = options;
    this.#options = options;
    this.#child = child;
    this.pid = child.pid;
    this.#mapPositions = createPositionMapper(spec.sourceMap);
    this.#operations = new Operations(child.channel, events);
    this.#workerLog = new WorkerLog(events, this.#mapPositions);
    this.#exited = child.exited.then((exit) => this.#gone(exit));
    child.adopt((kind, payload) => this.#dispatch(kind, payload));
    this.started = this.#start();
    // `start` hands the rejection on; this keeps it from counting as unhandled meanwhile.
    this.started.catch(() => undefined);
  }

  get backlogBytes(): number {
    return this.#child.channel.backlogBytes;
  }

  send(tag: number, envelope: Buffer, clockOffsetMs: number): void {
    const head = Buffer.allocUnsafe(12);
    head.writeUInt32BE(tag, 0);
    head.writeDoubleBE(clockOffsetMs, 4);
    this.#child.channel.send(FrameKind.calls, head, envelope);
  }

  stream(kind: number, callId: Buffer, data = EMPTY): void {
    this.#child.channel.send(kind, callId, data);
  }

  cancel(ids: Buffer): void {
    this.#child.channel.send(FrameKind.cancel, ids);
  }

  ping(): Promise<void> {
    const { reason } = this.#child;
    if (reason !== undefined) return Promise.reject(gone(reason));
    return new Promise((resolve, reject) => {
      this.#pings.push({ resolve, reject });
      this.#child.channel.send(FrameKind.ping);
    });
  }

  kill(): void {
    this.#child.end('killed', 'it was killed');
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#child.close(CLOSE_MS);
    await this.#exited;
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
    const { spec, watch, besideMb = 0 } = this.#options;
    const { idleBytes } = this.#child;
    if (idleBytes > 0) {
      watch.add(this.pid, residentLimit(idleBytes, spec.memoryMb + besideMb), (bytes) => {
        this.#child.end('memory', `it used ${Math.round(bytes / 2 ** 20)} MB, with memoryMb ${spec.memoryMb}`);
      });
    }
    const failure = await new Promise<Buffer | undefined>((resolve) => {
      this.#onStarted = resolve;
      this.#child.channel.send(FrameKind.load, ...loadFrame(spec));
    });
    if (failure !== undefined) throw startError(spec, failure, this.#mapPositions);
  }

  async #failOnExit(): Promise<never> {
    throw gone(await this.#exited);
  }

  /** Throws when the frame makes no sense. */
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
      case FrameKind.streamData:
      case FrameKind.streamCredit:
      case FrameKind.streamEnd:
      case FrameKind.streamReset:
        return this.#options.events.onStream?.(kind, payload);
      case FrameKind.pong:
        return this.#pings.shift()?.resolve();
      case FrameKind.ready:
        this.#isServing = true;
        return this.#onStarted(undefined);
      case FrameKind.failed:
        return this.#onStarted(payload);
      case FrameKind.cache:
        return this.#options.events.onCodeCache?.(payload);
      case FrameKind.hello:
        return; // It is up, and said so before.
      default:
        throw new Error(`unknown kind ${kind}`);
    }
  }

  #gone(exit: WorkerExit): WorkerExit {
    const { events, watch, log, spec } = this.#options;
    watch.remove(this.pid);
    this.#operations.close();
    for (const ping of this.#pings) ping.reject(gone(exit));
    this.#pings = [];
    log.debug({ bundle: spec.bundle, revision: spec.revision, pid: this.pid, ...exit }, 'worker ended');
    if (this.#isServing) events.onExit(exit);
    return exit;
  }
}

/** See `FrameKind.load`: a seed of the guest's random generator, the spec, the code cache, the bundle. */
function loadFrame(spec: WorkerSpec): Buffer[] {
  const { bundle, revision, operations, config, services, secrets = {}, stackTraces, logLevel, state = 'kept' } = spec;
  const { codeCache = EMPTY, directBytes = STREAM_FRAME_BYTES } = spec;
  const loadSpec: LoadSpec = {
    bundle,
    revision,
    operations,
    config,
    services,
    secrets,
    stackTraces,
    logLevel,
    state,
    directBytes,
    codeCacheBytes: codeCache.length,
  };
  const json = Buffer.from(JSON.stringify(loadSpec));
  const head = Buffer.allocUnsafe(SEED_BYTES + 4);
  randomFillSync(head, 0, SEED_BYTES);
  head.writeUInt32BE(json.length, SEED_BYTES);
  return [head, json, codeCache, Buffer.from(spec.source)];
}

const EMPTY = Buffer.alloc(0);
