import { begin, type Operation } from './operations.ts';
import { Scope, type Vendor } from './scope.ts';

/** What a service knows of the call that uses it. */
export interface ServiceCall {
  readonly id: string;
  /** Unix ms on this machine. */
  readonly deadline: number;
  /** What it has taken; absent while that is nothing. */
  scope: Scope | undefined;
  /** Its func has returned or thrown. */
  isEnded: boolean;
  /** The body of its answer is being made: what that asks for is no part of the call, which may end long before it. */
  isStreaming: boolean;
  /** Its deadline has passed, or nobody waits for it any more. */
  readonly isAborted: boolean;
}

/** The runner's own takings for a call. What the runner sees fail it undoes by itself, so only a success needs a word. */
const RUNNER: Vendor<string> = {
  vend: (callId) => callId,
  release: (callId, success) => (success ? begin('scope.end', {}, undefined, callId).outcome : undefined),
};

/**
 * Asks the runner for something a service does.
 * @throws Error CALL_ENDED after the end of the call; what `begin` throws
 */
export function ask(
  name: string,
  service: string,
  args: Readonly<Record<string, unknown>>,
  call: ServiceCall | undefined,
  bytes?: Uint8Array,
): Operation {
  if (call === undefined || call.isStreaming) return begin(name, { ...args, service }, bytes);
  if (call.isEnded) throw callEnded(service);
  return begin(name, { ...args, service, deadline: call.deadline }, bytes, call.id);
}

/** Like `ask`, for what the runner commits when the call succeeds and rolls back when it fails. */
export function askScoped(
  name: string,
  service: string,
  args: Readonly<Record<string, unknown>>,
  call: ServiceCall | undefined,
): Operation {
  const operation = ask(name, service, args, call);
  if (call !== undefined && !call.isStreaming) {
    call.scope ??= new Scope(call.id);
    call.scope.vend(RUNNER);
  }
  return operation;
}

/**
 * What the call has of a service that the bundle provides itself, taken when it is first asked for.
 * @throws Error CALL_ENDED after the end of the call, when nothing would give it back; what the provider throws
 */
export function take(vendor: Vendor<unknown>, service: string, call: ServiceCall, context: unknown): unknown {
  if (call.isEnded || call.isAborted) throw callEnded(service);
  call.scope ??= new Scope(call.id);
  return call.scope.vend(vendor, context);
}

function callEnded(service: string): Error {
  const error = new Error(`service ${service} was used after the call had ended: await it before the func returns`);
  return Object.assign(error, { code: 'CALL_ENDED' });
}
