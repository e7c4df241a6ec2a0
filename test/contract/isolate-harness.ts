import { execFileSync } from 'node:child_process';
import type { Isolation } from '../../core/bundle/manifest.ts';
import { writeId } from '../../core/id.ts';
import { createLog } from '../../core/log.ts';
import {
  CallFlag,
  type CallLogLine,
  type CallMeta,
  encodeCalls,
  Envelope,
  ReplyFlag,
  type ReplyMeta,
} from '../../core/wire/envelope.ts';
import type {
  GuestOperation,
  GuestResult,
  IsolateKind,
  Worker,
  WorkerEvents,
  WorkerExit,
  WorkerSpec,
} from '../../runner/isolate/isolate.ts';
import { createProcessIsolate, type ProcessIsolateOptions } from '../../runner/isolate/process.ts';
import { createStrictIsolate } from '../../runner/isolate/strict.ts';
import { createThreadIsolate } from '../../runner/isolate/thread.ts';

/** A worker under test, with its calls matched to their replies. */

export const silentLog = createLog({ level: 'silent', role: 'test' });

export interface TestReply {
  readonly status: number;
  readonly isFailed: boolean;
  readonly isJson: boolean;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Lines of the call's own log that came back with it. */
  readonly log: readonly CallLogLine[] | undefined;
  readonly body: Buffer;
  readonly arrivedUs: number;
  readonly waitUs: number;
  readonly funcUs: number;
  readonly tag: number;
  /** The body as JSON. */
  json(): unknown;
}

export interface TestCall {
  readonly operation?: number;
  readonly body?: string | Buffer;
  readonly meta?: CallMeta;
  readonly flags?: number;
  readonly attempt?: number;
  readonly deadlineMs?: number;
  readonly id?: Buffer;
}

type LogLine = Parameters<WorkerEvents['onLog']>[0];

export class WorkerHarness {
  worker!: Worker;
  readonly logs: LogLine[] = [];
  readonly operations: GuestOperation[] = [];
  readonly codeCaches: Buffer[] = [];
  readonly frames: { readonly tag: number; readonly count: number }[] = [];
  readonly exited: Promise<WorkerExit>;
  /** Gets the frames of streams. */
  onStream: (kind: number, payload: Buffer) => void = () => undefined;
  #onExit: (exit: WorkerExit) => void = () => undefined;
  readonly #waiting = new Map<string, { resolve(reply: TestReply): void; reject(error: Error): void }>();
  perform: (request: GuestOperation, signal: AbortSignal) => Promise<GuestResult> = () =>
    Promise.reject(new Error('no operation was expected'));

  constructor() {
    this.exited = new Promise((resolve) => {
      this.#onExit = resolve;
    });
  }

  readonly events: WorkerEvents = {
    onReplies: (tag, buffer) => this.#onReplies(tag, new Envelope(buffer)),
    onLog: (line) => this.logs.push(line),
    onOperation: (request, signal) => {
      this.operations.push(request);
      return this.perform(request, signal);
    },
    onStream: (kind, payload) => this.onStream(kind, payload),
    onCodeCache: (cache) => this.codeCaches.push(Buffer.from(cache)),
    onExit: (exit) => {
      this.#onExit(exit);
      for (const call of this.#waiting.values())
        call.reject(new Error(`the worker is gone: ${exit.reason} (${exit.detail})`));
    },
  };

  /** Sends calls in one envelope; settles with their replies in the order of the calls. */
  callAll(calls: readonly TestCall[], tag = 1, clockOffsetMs = 0): Promise<TestReply[]> {
    const records = calls.map((call) => ({
      id: call.id ?? newIdBytes(),
      deadline: Date.now() + (call.deadlineMs ?? 20_000),
      operation: call.operation ?? 0,
      flags: call.flags ?? CallFlag.text,
      attempt: call.attempt ?? 1,
      meta: JSON.stringify({ headers: { 'content-type': 'application/json' }, ...call.meta }),
      body: call.body === undefined ? undefined : Buffer.from(call.body as string),
    }));
    const replies = records.map(({ id }) => {
      return new Promise<TestReply>((resolve, reject) => this.#waiting.set(id.toString('hex'), { resolve, reject }));
    });
    this.worker.send(tag, encodeCalls(records), clockOffsetMs);
    return Promise.all(replies);
  }

  async call(call: TestCall = {}): Promise<TestReply> {
    const [reply] = await this.callAll([call]);
    if (reply === undefined) throw new Error('no reply');
    return reply;
  }

  #onReplies(tag: number, envelope: Envelope): void {
    this.frames.push({ tag, count: envelope.count });
    for (let index = 0; index < envelope.count; index++) {
      const key = envelope.id(index).toString('hex');
      const waiting = this.#waiting.get(key);
      if (waiting === undefined) throw new Error(`a reply to call ${key} that nobody waits for`);
      this.#waiting.delete(key);
      const meta = envelope.meta(index).toString();
      const read = (meta === '' ? {} : JSON.parse(meta)) as ReplyMeta;
      const body = Buffer.from(envelope.body(index));
      waiting.resolve({
        status: envelope.status(index),
        isFailed: (envelope.replyFlags(index) & ReplyFlag.failed) !== 0,
        isJson: (envelope.replyFlags(index) & ReplyFlag.json) !== 0,
        headers: read.headers ?? {},
        log: read.log,
        body,
        arrivedUs: envelope.arrivedUs(index),
        waitUs: envelope.waitUs(index),
        funcUs: envelope.funcUs(index),
        tag,
        json: () => JSON.parse(body.toString()) as unknown,
      });
    }
  }
}

export function newIdBytes(): Buffer {
  const id = Buffer.alloc(16);
  writeId(id, 0);
  return id;
}

/** The process isolate, built from the sources as they are now. */
export function openProcessIsolate(): IsolateKind {
  return openIsolate(createProcessIsolate);
}

function openIsolate(create: (options: ProcessIsolateOptions) => IsolateKind): IsolateKind {
  execFileSync(process.execPath, ['tools/build-inside.mjs']);
  return create({ log: silentLog, allowWeakIsolation: false });
}

/** Opens each of the isolates of `js`, by name. */
export const JS_ISOLATES = {
  process: openProcessIsolate,
  thread: () => openIsolate(createThreadIsolate),
  strict: () => openIsolate(createStrictIsolate),
} as const satisfies Readonly<Record<Isolation, () => IsolateKind>>;

/** A spec whose operations are the exports named. */
export function specOf(source: string, overrides: Partial<WorkerSpec> = {}, handlers = ['run']): WorkerSpec {
  return {
    bundle: 'test',
    revision: '0123456789ab',
    source,
    operations: handlers.map((handler) => ({ operationId: handler, handler })),
    config: {},
    services: {},
    memoryMb: 64,
    concurrency: 100,
    stackTraces: true,
    startTimeoutMs: 15_000,
    ...overrides,
  };
}

/** Starts workers and ends them after each test. */
export class WorkerStarter {
  readonly #kind: () => IsolateKind;
  #workers: WorkerHarness[] = [];

  constructor(kind: () => IsolateKind) {
    this.#kind = kind;
  }

  /** @param prepare gets the harness before the worker starts: its `init` may ask for operations */
  async start(
    source: string,
    overrides?: Partial<WorkerSpec>,
    handlers?: string[],
    prepare?: (harness: WorkerHarness) => void,
  ): Promise<WorkerHarness> {
    const harness = new WorkerHarness();
    prepare?.(harness);
    harness.worker = await this.#kind().start(specOf(source, overrides, handlers), harness.events);
    this.#workers.push(harness);
    return harness;
  }

  async endAll(): Promise<void> {
    const workers = this.#workers;
    this.#workers = [];
    for (const { worker } of workers) worker.kill();
    await Promise.all(workers.map(({ exited }) => exited));
  }
}
