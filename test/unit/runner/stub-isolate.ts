import { FuncatronError } from '../../../core/errors.ts';
import { formatId } from '../../../core/id.ts';
import { encodeReplies, Envelope, ReplyFlag, type CallMeta, type ReplyRecord } from '../../../core/wire/envelope.ts';
import type { IsolateKind, Worker, WorkerEvents, WorkerExit, WorkerSpec } from '../../../runner/isolate/isolate.ts';

/** A call as a stub func sees it. */
export interface StubCall {
  readonly id: string;
  readonly operationId: string;
  readonly attempt: number;
  readonly deadline: number;
  readonly meta: CallMeta;
  readonly body: Buffer;
  readonly worker: StubWorker;
}

/** What a stub func answers: JSON of any value, or exactly this. `undefined` never ends the call. */
export type StubFunc = (call: StubCall) => StubAnswer | undefined | Promise<StubAnswer | undefined>;
export interface StubAnswer {
  readonly status?: number;
  readonly flags?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** Plain functions in this process behind the isolate interface: for what is about the runner and not about isolation. */
export interface StubIsolate extends IsolateKind {
  /** Every worker ever started. */
  readonly workers: readonly StubWorker[];
  /** What the next starts do; empty: start. */
  readonly startFailures: Error[];
  /** When set, starts wait for it. */
  startGate: Promise<void> | undefined;
  alive(): readonly StubWorker[];
}

export function createStubIsolate(funcs: Readonly<Record<string, StubFunc>>): StubIsolate {
  const workers: StubWorker[] = [];
  const startFailures: Error[] = [];
  const stub: StubIsolate = {
    name: 'process',
    workers,
    startFailures,
    startGate: undefined,
    alive: () => workers.filter((worker) => worker.exit === undefined),
    async start(spec, events) {
      await stub.startGate;
      const failure = startFailures.shift();
      if (failure !== undefined) throw new FuncatronError('DEPLOY_FAILED', failure.message, { cause: failure });
      const worker = new StubWorker(`w${workers.length + 1}`, spec, events, funcs);
      workers.push(worker);
      return worker;
    },
  };
  return stub;
}

export class StubWorker implements Worker {
  readonly id: string;
  readonly pid = 0;
  readonly backlogBytes = 0;
  readonly spec: WorkerSpec;
  readonly events: WorkerEvents;
  readonly cancelled: string[] = [];
  readonly sizes: number[] = [];
  exit: WorkerExit | undefined;
  /** Answers no ping, as a worker in an endless loop. */
  isBlocked = false;
  readonly #funcs: Readonly<Record<string, StubFunc>>;
  readonly #pings: (() => void)[] = [];

  constructor(id: string, spec: WorkerSpec, events: WorkerEvents, funcs: Readonly<Record<string, StubFunc>>) {
    this.id = id;
    this.spec = spec;
    this.events = events;
    this.#funcs = funcs;
  }

  send(tag: number, bytes: Buffer): void {
    const envelope = new Envelope(bytes);
    this.sizes.push(envelope.count);
    const ready: ReplyRecord[] = [];
    for (let index = 0; index < envelope.count; index++) {
      const id = Buffer.from(envelope.id(index));
      const answer = this.#run(envelope, index);
      if (answer instanceof Promise) {
        void answer.then((later) => later !== undefined && this.reply(tag, [recordOf(id, later)]));
      } else if (answer !== undefined) ready.push(recordOf(id, answer));
    }
    if (ready.length > 0) setImmediate(() => this.reply(tag, ready));
  }

  reply(tag: number, records: readonly ReplyRecord[]): void {
    if (this.exit === undefined) this.events.onReplies(tag, encodeReplies(records));
  }

  stream(): void {
    // Its funcs take calls whole.
  }

  cancel(ids: Buffer): void {
    for (let at = 0; at < ids.length; at += 16) this.cancelled.push(formatId(ids, at));
  }

  ping(): Promise<void> {
    if (!this.isBlocked) return Promise.resolve();
    return new Promise((_resolve, reject) => this.#pings.push(() => reject(new Error('gone'))));
  }

  close(): Promise<void> {
    this.die({ reason: 'closed', detail: 'asked to' });
    return Promise.resolve();
  }

  kill(): void {
    this.die({ reason: 'killed', detail: 'asked to' });
  }

  /** The process is gone. */
  die(exit: WorkerExit = { reason: 'crashed', detail: 'signal SIGSEGV' }): void {
    if (this.exit !== undefined) return;
    this.exit = exit;
    for (const reject of this.#pings) reject();
    this.events.onExit(exit);
  }

  #run(envelope: Envelope, index: number): ReturnType<StubFunc> {
    const operation = this.spec.operations[envelope.operation(index)];
    const func = this.#funcs[operation?.handler ?? ''];
    if (operation === undefined || func === undefined)
      throw new Error(`no func for operation ${envelope.operation(index)}`);
    const meta = envelope.meta(index).toString();
    return func({
      id: formatId(envelope.id(index), 0),
      operationId: operation.operationId,
      attempt: envelope.attempt(index),
      deadline: envelope.deadline(index),
      meta: meta === '' ? {} : (JSON.parse(meta) as CallMeta),
      body: envelope.body(index),
      worker: this,
    });
  }
}

function recordOf(id: Buffer, answer: StubAnswer): ReplyRecord {
  return {
    id,
    status: answer.status ?? 200,
    flags: answer.flags ?? (answer.headers === undefined ? ReplyFlag.json : 0),
    waitUs: 1,
    funcUs: 1,
    meta: answer.headers === undefined ? '' : JSON.stringify({ headers: answer.headers }),
    body: answer.body ?? '{}',
  };
}
