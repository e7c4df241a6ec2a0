import type { TimerWheel, WheelEntry } from '../../core/deadline.ts';
import { ERRORS, type ErrorCode, FuncatronError } from '../../core/errors.ts';
import { formatId, newId } from '../../core/id.ts';
import { encodeLength } from '../../core/wire/direct.ts';
import {
  CallFlag,
  type CallMeta,
  encodeReplies,
  Envelope,
  type FailedReply,
  ReplyFlag,
  type ReplyRecord,
} from '../../core/wire/envelope.ts';
import { STREAM_FRAME_BYTES } from '../isolate/bridge.ts';
import type { Worker, WorkerEvents, WorkerSpec } from '../isolate/isolate.ts';
import { AnswerBody } from './answer-body.ts';
import type { CallBody } from './call-body.ts';
import { ProgramBodies } from './program-bodies.ts';
import type { Driver, ProgramCall, ProgramFailure, ProgramReply } from './program-call.ts';

const CLOSE_MS = 2_000;
const UNWANTED = 'nobody waited for the answer of the program any more';

interface Entry extends WheelEntry {
  readonly tag: number;
  readonly id: Buffer;
  readonly call: ProgramCall;
  readonly canFetch: boolean;
  readonly startedMs: number;
  /** Nobody waits for its answer any more, and nobody will say so again. */
  isCancelled: boolean;
}

/**
 * A worker whose calls are answered by programs: opens the envelopes here, in the runner, because a program has nothing
 * of ours inside that could, and sees to the deadlines. Nothing is coalesced: a program answers one call at a time.
 */
export class ProgramWorker implements Worker {
  readonly id = newId();
  readonly #spec: WorkerSpec;
  readonly #events: WorkerEvents;
  readonly #driver: Driver;
  readonly #wheel: TimerWheel;
  readonly #bodies: ProgramBodies;
  /** By the id of the call, in hex. */
  readonly #entries = new Map<string, Entry>();
  #isGone = false;

  /** @param wheel for the deadlines of its calls */
  constructor(spec: WorkerSpec, events: WorkerEvents, driver: Driver, wheel: TimerWheel) {
    this.#spec = spec;
    this.#events = events;
    this.#driver = driver;
    this.#wheel = wheel;
    this.#bodies = new ProgramBodies((kind, payload) => events.onStream?.(kind, payload));
    void driver.ended.then((exit) => {
      this.#isGone = true;
      for (const entry of this.#entries.values()) wheel.remove(entry);
      this.#entries.clear();
      events.onExit(exit);
    });
  }

  get pid(): number {
    return this.#driver.pid;
  }

  get backlogBytes(): number {
    return this.#driver.backlogBytes;
  }

  send(tag: number, bytes: Buffer, clockOffsetMs: number): void {
    const now = Date.now();
    const envelope = new Envelope(bytes);
    for (let index = 0; index < envelope.count; index++) {
      const deadline = envelope.deadline(index) + clockOffsetMs;
      const id = envelope.id(index);
      if (deadline <= now)
        this.#fail(tag, id, 'TIMEOUT', 'the deadline had passed before the program was given the call');
      else if ((envelope.callFlags(index) & CallFlag.direct) !== 0) this.#open(tag, envelope, index, deadline);
      else void this.#run(tag, envelope, index, deadline, envelope.body(index));
    }
  }

  stream(kind: number, callId: Buffer, data = EMPTY): void {
    this.#bodies.receive(kind, callId, data);
  }

  cancel(ids: Buffer): void {
    for (let at = 0; at + 16 <= ids.length; at += 16) {
      const entry = this.#entries.get(ids.toString('hex', at, at + 16));
      if (entry === undefined) continue;
      entry.isCancelled = true;
      this.#driver.abandon(entry.call, 'cancelled');
    }
  }

  /** The programs have no way to answer one; that they hang shows in their calls. */
  ping(): Promise<void> {
    return this.#isGone ? Promise.reject(new FuncatronError('FUNC_CRASHED', 'the worker is gone')) : Promise.resolve();
  }

  close(): Promise<void> {
    return this.#driver.close(CLOSE_MS);
  }

  kill(): void {
    this.#driver.kill('it was killed');
  }

  /** A call whose body is on its way: a direct operation gets it as it comes, any other one when it is whole. */
  #open(tag: number, envelope: Envelope, index: number, deadline: number): void {
    const body = this.#bodies.open(envelope.id(index));
    if (this.#isDirect(envelope, index)) void this.#run(tag, envelope, index, deadline, body);
    else this.#collect(tag, envelope, index, deadline, body);
  }

  #collect(tag: number, envelope: Envelope, index: number, deadline: number, body: CallBody): void {
    const pieces: Buffer[] = [];
    const fail = (code: ErrorCode, message: string): void => {
      this.#wheel.remove(entry);
      this.#fail(tag, envelope.id(index), code, message);
    };
    const entry = { tick: 0, expire: () => fail('TIMEOUT', 'the body did not come before the deadline') };
    if (deadline !== Infinity) this.#wheel.add(entry, deadline - Date.now());
    body.read({
      onPiece: (piece) => pieces.push(piece) > 0,
      onEnd: () => {
        this.#wheel.remove(entry);
        void this.#run(tag, envelope, index, deadline, Buffer.concat(pieces));
      },
      onBreak: (why) => fail('FUNC_ERROR', `the body of the call broke off: ${why}`),
    });
  }

  #isDirect(envelope: Envelope, index: number): boolean {
    return this.#spec.operations[envelope.operation(index)]?.isDirect === true;
  }

  async #run(tag: number, envelope: Envelope, index: number, deadline: number, body: Buffer | CallBody): Promise<void> {
    const id = envelope.id(index);
    const key = id.toString('hex');
    const canFetch = (envelope.callFlags(index) & CallFlag.fetches) !== 0;
    const call: ProgramCall = {
      id: formatId(id, 0),
      operationId: this.#spec.operations[envelope.operation(index)]?.operationId ?? '',
      meta: readMeta(envelope.meta(index)),
      body,
      deadline,
      streams: canFetch ? (this.#isDirect(envelope, index) ? 'all' : 'long') : undefined,
    };
    const entry: Entry = {
      tag,
      id,
      canFetch,
      call,
      startedMs: performance.now(),
      isCancelled: false,
      tick: 0,
      expire: () => this.#expire(key, entry),
    };
    this.#entries.set(key, entry);
    if (deadline !== Infinity) this.#wheel.add(entry, deadline - Date.now());
    const outcome = await this.#driver.run(call).catch(unstarted);
    // Answered by its deadline meanwhile, or gone with the program.
    if (this.#entries.get(key) !== entry) {
      if ('body' in outcome && outcome.body instanceof AnswerBody) outcome.body.stop();
      return;
    }
    this.#entries.delete(key);
    this.#wheel.remove(entry);
    this.#answer(entry, outcome);
  }

  #answer({ tag, id, canFetch, startedMs, isCancelled }: Entry, outcome: ProgramReply | ProgramFailure): void {
    // A program that was ended because nobody waits for it any more has not failed: its runner may see to that before its
    // caller's deadline has come to the caller.
    if ('code' in outcome && isCancelled) return this.#fail(tag, id, 'TIMEOUT', UNWANTED, startedMs);
    if ('code' in outcome) return this.#fail(tag, id, outcome.code, outcome.message, startedMs);
    const { status, headers, body } = outcome;
    const funcUs = Math.round((performance.now() - startedMs) * 1000);
    const meta = JSON.stringify({ headers });
    const maxBytes = canFetch ? (this.#spec.directBytes ?? STREAM_FRAME_BYTES) : Infinity;
    if (Buffer.isBuffer(body) && body.length <= maxBytes) {
      this.#bodies.close(id);
      return this.#reply(tag, { id, status, flags: 0, waitUs: 0, funcUs, meta, body });
    }
    const stream = Buffer.isBuffer(body) ? wholeBody(body) : body;
    if (isCancelled) {
      stream.stop();
      return this.#fail(tag, id, 'TIMEOUT', UNWANTED, startedMs);
    }
    const length = encodeLength(stream.bytes);
    this.#reply(tag, { id, status, flags: ReplyFlag.direct, waitUs: 0, funcUs, meta, body: length });
    this.#bodies.send(id, stream);
  }

  /** `startedMs`: when the program was given the call. */
  #fail(tag: number, id: Buffer, code: ErrorCode, message: string, startedMs = performance.now()): void {
    this.#bodies.close(id);
    const body = JSON.stringify({ code, message } satisfies FailedReply);
    const { status } = ERRORS[code];
    const funcUs = Math.round((performance.now() - startedMs) * 1000);
    this.#reply(tag, { id, status, flags: ReplyFlag.failed, waitUs: 0, funcUs, meta: '', body });
  }

  #reply(tag: number, record: ReplyRecord): void {
    if (!this.#isGone) this.#events.onReplies(tag, encodeReplies([record]));
  }

  #expire(key: string, { tag, id, call, startedMs }: Entry): void {
    this.#entries.delete(key);
    this.#fail(tag, id, 'TIMEOUT', 'the program did not answer before the deadline', startedMs);
    this.#driver.abandon(call, 'overdue');
  }
}

function wholeBody(bytes: Buffer): AnswerBody {
  const body = new AnswerBody(bytes.length);
  body.write(bytes);
  body.end();
  return body;
}

/** The system gives no process: too many, or no memory for one. */
function unstarted(thrown: unknown): ProgramFailure {
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return { code: 'FUNC_CRASHED', message: `the program cannot be started: ${reason}` };
}

/** From another machine of ours; a meta that is none is as good as an empty one. */
function readMeta(bytes: Buffer): CallMeta {
  if (bytes.length === 0) return {};
  try {
    const meta: unknown = JSON.parse(bytes.toString());
    return typeof meta === 'object' && meta !== null ? meta : {};
  } catch {
    return {};
  }
}

const EMPTY = Buffer.alloc(0);
