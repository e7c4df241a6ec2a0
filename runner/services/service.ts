import type { Closable } from '../../core/lifecycle.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import type { CallScope } from './scopes.ts';

/** A service one revision declares, performed by its runner: it alone has the address, the credentials and the connections. */
export interface Service extends Closable {
  /** Whether calls take something of it that they give back; only then `run` gets their scope. */
  readonly vends: boolean;
  /**
   * @param scope what the call has taken; absent outside of a call (`init`, a timer)
   * @param signal aborts when the guest gives up or its worker is gone
   */
  run(request: GuestOperation, scope: CallScope | undefined, signal: AbortSignal): Promise<GuestResult>;
}

/** Most bytes of one answer of a service. */
export const MAX_RESULT_BYTES = 8 * 1024 * 1024;

/** Longest wait for a connection, and for an answer outside of a call. */
const LONGEST_WAIT_MS = 10_000;
const LONGEST_RUN_MS = 30_000;

/**
 * How long a call that began to wait now may wait for a connection: four fifths of what is left of its time, so that
 * its SERVICE_BUSY arrives before its TIMEOUT.
 */
export function waitMsOf(deadline: number | undefined): number {
  if (deadline === undefined) return LONGEST_WAIT_MS;
  return Math.max(1, Math.min(LONGEST_WAIT_MS, Math.floor((deadline - Date.now()) * 0.8)));
}

/** How long an answer may take: until the deadline, or 30 s outside of a call. Whole milliseconds a timer takes. */
export function runMsOf(deadline: number | undefined): number {
  if (deadline === undefined) return LONGEST_RUN_MS;
  return Math.max(1, Math.min(2 ** 31 - 1, Math.ceil(deadline - Date.now())));
}

/** The deadline a guest's request names, in unix ms on this machine: the guest's word, good enough to bound its own waits. */
export function deadlineOf({ args }: GuestOperation): number | undefined {
  const { deadline } = args;
  return typeof deadline === 'number' && Number.isFinite(deadline) ? deadline : undefined;
}

/** What a guest is told of a service's own failure. Never the error itself: those of clients may carry credentials. */
export function serviceError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** That a server cannot be reached, without where or as whom. */
export function unreachable(service: string, thrown: unknown): Error {
  const code = codeOf(thrown);
  return serviceError('SERVICE_DOWN', `service ${service} cannot be reached${code === undefined ? '' : ` (${code})`}`);
}

/** Node's code, or a server's. */
function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
}
