import {
  type Failure,
  FRESH_OPERATIONS,
  GUEST_OPERATIONS,
  LANE_OPERATIONS,
  MAX_OPERATIONS,
  OPERATION_BYTES,
  Out,
  WORKER_OPERATION_BYTES,
} from '../bridge.ts';
import type { AbortSignal } from './abort.ts';
import { Lanes, type Place } from './lanes.ts';
import { putNote } from './outbox.ts';
import { received } from './shared.ts';

/**
 * What the guest asks the host, and through it the runner, to do: a promise made here, settled by number. So many are
 * under way at once; the others wait here, where their memory is the bundle's own: a func may ask for a thousand things
 * and await them all. Every kind (`kv`, `fetch`, …) of every call that is named is a lane of its own.
 */

/** A finished operation. */
export interface OperationResult {
  readonly result: Readonly<Record<string, unknown>>;
  readonly bytes: Uint8Array | undefined;
}

interface Pending {
  readonly place: Place;
  readonly resolve: (result: OperationResult) => void;
  readonly reject: (error: Error) => void;
}

const { parse, stringify } = JSON;
const pending = new Map<number, Pending>();
const bytesAtOnce = WORKER_OPERATION_BYTES / 2;
const lanes = new Lanes({ perLane: LANE_OPERATIONS, inAll: GUEST_OPERATIONS, bytes: bytesAtOnce });
let lastId = 0;

/** Says that this guest is one of many in its worker, each for one call. */
export function shareRoom(): void {
  lanes.setRoom({ perLane: FRESH_OPERATIONS, inAll: FRESH_OPERATIONS, bytes: bytesAtOnce });
}

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
    const hint = 'await some before asking for more';
    throw operationError('SERVICE_BUSY', `${MAX_OPERATIONS} operations are pending in this worker: ${hint}`);
  }
  const json = stringify({ name, args, callId });
  const size = json.length + (bytes?.length ?? 0);
  if (size > OPERATION_BYTES) {
    throw operationError('PAYLOAD_TOO_LARGE', `${name} takes at most ${OPERATION_BYTES} bytes`);
  }
  const id = ++lastId;
  const outcome = new Promise<OperationResult>((resolve, reject) => {
    const place = lanes.enter(laneOf(name, callId), size, () => putNote(Out.op, id, json, bytes));
    pending.set(id, { place, resolve, reject });
  });
  return { id, outcome };
}

function laneOf(name: string, callId = ''): string {
  const dot = name.indexOf('.');
  return `${dot < 0 ? name : name.slice(0, dot)} ${callId}`;
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

/** Forgets an operation: its outcome never settles, and the runner is told to stop if it knows of it. */
function abandon(id: number): void {
  const asked = pending.get(id);
  if (asked === undefined) return;
  pending.delete(id);
  if (lanes.leave(asked.place)) putNote(Out.opCancel, id, '');
}

/** Errors that say something of the cluster and not of the func: a call whose func lets them through ends with their code. */
const passed = new WeakMap<Error, Failure>();

/** An error of the guest's with a code of the table. */
export function operationError(code: string, message: string): Error {
  const error = Object.assign(new Error(message), { code });
  if (code === 'SERVICE_BUSY' || code === 'LOOP_DETECTED') passed.set(error, code);
  return error;
}

/** An error that is the caller's fault: a call whose func lets it through is answered with its code. */
export function callerError(code: 'INVALID_REQUEST' | 'PAYLOAD_TOO_LARGE', message: string): Error {
  const error = Object.assign(new Error(message), { code });
  passed.set(error, code);
  return error;
}

/** The code of a call whose func threw this: for want of room, in a loop of funcs, or for what came in, it is not the func's own fault. */
export function codeOf(thrown: unknown): Failure {
  return (thrown instanceof Error ? passed.get(thrown) : undefined) ?? 'FUNC_ERROR';
}

/** See `Guest.settle`. */
export function settle(id: number, done: number, json: string): void {
  const bytes = received();
  const waiting = pending.get(id);
  if (waiting === undefined) return;
  pending.delete(id);
  lanes.leave(waiting.place);
  const value = parse(json) as Record<string, unknown>;
  if (done === 1) waiting.resolve({ result: value, bytes });
  else waiting.reject(operationError(String(value['code']), String(value['message'])));
}
