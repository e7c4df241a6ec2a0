import { FuncatronError, toFuncatronError } from '../../core/errors.ts';
import { OPERATION_BYTES, WORKER_OPERATION_BYTES, WORKER_OPERATIONS } from './bridge.ts';
import { type Channel, FrameKind } from './channel.ts';
import type { GuestOperation, GuestResult, WorkerEvents } from './isolate.ts';

/** What a guest is told of a failure: its code, ours or Node's, and its message. */
function describe(thrown: unknown): { code: string; message: string } {
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') {
    return { code: thrown.code, message: thrown.message };
  }
  const { code, message } = toFuncatronError(thrown);
  return { code, message };
}

/** Results a worker has not read yet may be so long together; more fail. A guest that asks and then loops would fill the runner. */
const UNREAD_BYTES = 64 * 1024 * 1024;

/** What a worker asked its runner to do and still waits for. */
export class Operations {
  readonly #channel: Channel;
  readonly #events: Pick<WorkerEvents, 'onOperation'>;
  readonly #pending = new Map<number, AbortController>();
  /** Those that the runner still performs, given up or not: not all can be stopped half-way. */
  #running = 0;
  /** What those take in memory: their frames. */
  #runningBytes = 0;

  constructor(channel: Channel, events: Pick<WorkerEvents, 'onOperation'>) {
    this.#channel = channel;
    this.#events = events;
  }

  /**
   * Starts the operation of a frame, or refuses it unread when the worker has too many under way: who keeps to the
   * bounds of the guest never does.
   * @throws Error when the frame is none, or the worker keeps asking and reads no answer
   */
  begin(frame: Buffer): void {
    const id = frame.readUInt32BE(0);
    const jsonBytes = frame.readUInt32BE(4);
    if (this.#pending.has(id)) throw new TypeError(`operation ${id} twice`);
    if (this.#channel.backlogBytes > 2 * UNREAD_BYTES) throw new Error('it asks for operations and reads no results');
    const refusal = this.#refusal(frame.length, jsonBytes);
    if (refusal !== undefined) return this.#settle(id, 0, refusal);
    const { name, args, callId } = JSON.parse(frame.toString('utf8', 8, 8 + jsonBytes)) as Record<string, unknown>;
    if (typeof name !== 'string' || typeof args !== 'object' || args === null) throw new TypeError('bad operation');
    const controller = new AbortController();
    this.#pending.set(id, controller);
    const request: GuestOperation = {
      name,
      args: args as GuestOperation['args'],
      bytes: frame.subarray(8 + jsonBytes),
      ...(typeof callId === 'string' ? { callId } : {}),
    };
    void this.#run(id, request, frame.length, controller.signal);
  }

  /** Aborts the operations of a cancel frame. */
  abandon(ids: Buffer): void {
    for (let at = 0; at + 4 <= ids.length; at += 4) this.#forget(ids.readUInt32BE(at));
  }

  /** Aborts all: the worker is gone. */
  close(): void {
    for (const id of this.#pending.keys()) this.#forget(id);
  }

  #refusal(frameBytes: number, jsonBytes: number): GuestResult['result'] | undefined {
    if (jsonBytes > OPERATION_BYTES) {
      return { code: 'PAYLOAD_TOO_LARGE', message: `an operation takes at most ${OPERATION_BYTES} bytes` };
    }
    const isFull = this.#running >= WORKER_OPERATIONS || this.#runningBytes + frameBytes > WORKER_OPERATION_BYTES;
    if (!isFull) return undefined;
    const message = `${this.#running} operations of this worker, ${this.#runningBytes} bytes, are under way`;
    return { code: 'SERVICE_BUSY', message };
  }

  #forget(id: number): void {
    const controller = this.#pending.get(id);
    this.#pending.delete(id);
    controller?.abort();
  }

  async #run(id: number, request: GuestOperation, frameBytes: number, signal: AbortSignal): Promise<void> {
    let done: 0 | 1 = 1;
    let outcome: GuestResult;
    this.#running++;
    this.#runningBytes += frameBytes;
    try {
      outcome = await this.#events.onOperation(request, signal);
      const bytes = outcome.bytes?.length ?? 0;
      if (bytes > OPERATION_BYTES) throw new Error(`${request.name}: ${bytes} bytes are more than ${OPERATION_BYTES}`);
      if (bytes + this.#channel.backlogBytes > UNREAD_BYTES) {
        throw new FuncatronError('SERVICE_BUSY', `${request.name}: the worker does not read its results`);
      }
    } catch (thrown) {
      done = 0;
      outcome = { result: describe(thrown) };
    }
    this.#running--;
    this.#runningBytes -= frameBytes;
    if (this.#pending.delete(id)) this.#settle(id, done, outcome.result, outcome.bytes);
  }

  #settle(id: number, done: 0 | 1, result: GuestResult['result'], bytes?: Buffer): void {
    const json = Buffer.from(JSON.stringify(result));
    const head = Buffer.allocUnsafe(9);
    head.writeUInt32BE(id, 0);
    head[4] = done;
    head.writeUInt32BE(json.length, 5);
    this.#channel.send(FrameKind.opResult, head, json, ...(bytes === undefined ? [] : [bytes]));
  }
}
