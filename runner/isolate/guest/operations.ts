import { type Failure, MAX_OPERATIONS, OPERATION_BYTES, Out } from '../bridge.ts';
import type { AbortSignal } from './abort.ts';
import { putNote } from './outbox.ts';
import { received } from './shared.ts';

/** What the guest asks the host, and through it the runner, to do: a promise made here, settled by number. */

/** A finished operation. */
export interface OperationResult {
  readonly result: Readonly<Record<string, unknown>>;
  readonly bytes: Uint8Array | undefined;
}

interface Pending {
  readonly resolve: (result: OperationResult) => void;
  readonly reject: (error: Error) => void;
}

const { parse, stringify } = JSON;
const pending = new Map<number, Pending>();
let lastId = 0;

/** An operation under way: its number, to give it up by, and its outcome. */
export interface Operation {
  readonly id: number;
  readonly outcome: Promise<OperationResult>;
}

/**
 * Asks for an operation. The outcome rejects with an `Error` with a `code`. `bytes` must be a copy that the bundle cannot reach.
 * @throws Error SERVICE_BUSY when too many are pending, PAYLOAD_TOO_LARGE when the bytes are too many
 */
export function begin(
  name: string,
  args: Readonly<Record<string, unknown>>,
  bytes?: Uint8Array,
  callId?: string,
): Operation {
  if (pending.size >= MAX_OPERATIONS) {
    throw operationError('SERVICE_BUSY', `more than ${MAX_OPERATIONS} operations are pending in this worker`);
  }
  const json = stringify({ name, args, callId });
  if (json.length + (bytes?.length ?? 0) > OPERATION_BYTES) {
    throw operationError('PAYLOAD_TOO_LARGE', `${name} takes at most ${OPERATION_BYTES} bytes`);
  }
  const id = ++lastId;
  const outcome = new Promise<OperationResult>((resolve, reject) => {
    pending.set(id, { resolve, reject });
  });
  putNote(Out.op, id, json, bytes);
  return { id, outcome };
}

/** The outcome of an operation; given up, and rejected with the signal's reason, when the signal aborts first. */
export function unlessAborted({ id, outcome }: Operation, signal: AbortSignal): Promise<OperationResult> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      abandon(id);
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    outcome.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Forgets an operation: its outcome never settles, and the runner is told to stop. */
function abandon(id: number): void {
  if (pending.delete(id)) putNote(Out.opCancel, id, '');
}

/** Errors that say something of the cluster and not of the func: a call whose func lets them through ends with their code. */
const passed = new WeakMap<Error, Failure>();

/** An error of the guest's with a code of the table. */
export function operationError(code: string, message: string): Error {
  const error = Object.assign(new Error(message), { code });
  if (code === 'SERVICE_BUSY' || code === 'LOOP_DETECTED') passed.set(error, code);
  return error;
}

/** The code of a call whose func threw this: for want of room, or in a loop of funcs, it is not the func's own fault. */
export function codeOf(thrown: unknown): Failure {
  return (thrown instanceof Error ? passed.get(thrown) : undefined) ?? 'FUNC_ERROR';
}

/** See `Guest.settle`. */
export function settle(id: number, done: number, json: string): void {
  const bytes = received();
  const waiting = pending.get(id);
  if (waiting === undefined) return;
  pending.delete(id);
  const value = parse(json) as Record<string, unknown>;
  if (done === 1) waiting.resolve({ result: value, bytes });
  else waiting.reject(operationError(String(value['code']), String(value['message'])));
}
