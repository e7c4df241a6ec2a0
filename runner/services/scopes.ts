import { FuncatronError } from '../../core/errors.ts';
import { formatId } from '../../core/id.ts';
import { Envelope } from '../../core/wire/envelope.ts';
import { runMsOf } from './service.ts';

/** Something a service lets a call have until it ends: a transaction on its connection. */
export interface Vended {
  /**
   * The call has ended: commits, or rolls back. Rejects when what a success promised is not so; a rollback never
   * rejects. Called once.
   */
  release(success: boolean): Promise<void>;
}

/** Calls of one worker with takings, at most: their answers end them, so only a guest that invents ids gets here. */
const MAX_SCOPES = 10_000;

/**
 * What one call has taken.
 *
 * `open` → `ended`, once: committed when its guest says that the call succeeded; rolled back when the answer comes
 * without that, the call is cancelled, its deadline passes, or its worker is gone.
 */
export class CallScope {
  /** Aborts when the call has ended. */
  readonly signal: AbortSignal;
  readonly deadline: number | undefined;
  readonly #stop = new AbortController();
  readonly #taken = new Map<object, Vended>();
  readonly #timer: NodeJS.Timeout;
  #ending: Promise<void> | undefined;

  constructor(deadline: number | undefined) {
    this.deadline = deadline;
    this.signal = this.#stop.signal;
    this.#timer = setTimeout(() => void this.end(false), runMsOf(deadline));
  }

  /** What `service` lets this call have; made by `vend` when it has nothing of it yet. @throws TIMEOUT after the end of the call */
  vend<Item extends Vended>(service: object, vend: () => Item): Item {
    if (this.#ending !== undefined) throw new FuncatronError('TIMEOUT', 'the call has ended');
    const known = this.#taken.get(service) ?? vend();
    this.#taken.set(service, known);
    return known as Item;
  }

  /**
   * Gives everything back, in the order it was taken; the first call counts. After a failed commit the rest is rolled
   * back: there is no two-phase commit between services. Rejects only of a commit that failed.
   */
  end(success: boolean): Promise<void> {
    if (this.#ending === undefined) {
      clearTimeout(this.#timer);
      this.#ending = this.#release(success);
      this.#ending.catch(() => undefined); // Whoever asked for a commit hears of it.
      if (!success) this.#stop.abort();
    }
    return this.#ending;
  }

  async #release(success: boolean): Promise<void> {
    let failure: unknown;
    for (const vended of this.#taken.values()) {
      try {
        await vended.release(success && failure === undefined);
      } catch (thrown) {
        failure ??= thrown;
      }
    }
    this.#stop.abort();
    if (failure !== undefined) throw failure;
  }
}

/** The scopes of one worker, by call. An ended one stays until its call is answered, so that nothing begins anew in it. */
export class Scopes {
  readonly #byCall = new Map<string, CallScope>();

  /** The scope of a call. @throws SERVICE_BUSY when there are too many */
  of(callId: string, deadline: number | undefined): CallScope {
    const known = this.#byCall.get(callId);
    if (known !== undefined) return known;
    if (this.#byCall.size >= MAX_SCOPES) {
      throw new FuncatronError('SERVICE_BUSY', `${MAX_SCOPES} calls of this worker hold something of a service`);
    }
    const scope = new CallScope(deadline);
    this.#byCall.set(callId, scope);
    return scope;
  }

  /** Commits what a call has taken. Rejects when that fails, or when it was rolled back already. */
  async commit(callId: string): Promise<void> {
    const scope = this.#byCall.get(callId);
    if (scope?.signal.aborted) throw new FuncatronError('TIMEOUT', 'the call was rolled back before it ended');
    await scope?.end(true);
  }

  /** Answers left the worker: what their calls have not committed is rolled back. */
  answered(bytes: Buffer): void {
    if (this.#byCall.size === 0) return;
    const envelope = new Envelope(bytes);
    for (let index = 0; index < envelope.count; index++) {
      const callId = formatId(envelope.id(index), 0);
      void this.#byCall.get(callId)?.end(false);
      this.#byCall.delete(callId);
    }
  }

  /** Nobody waits for these calls any more (16-byte ids, back to back). */
  cancelled(ids: Buffer): void {
    for (let at = 0; at + 16 <= ids.length && this.#byCall.size > 0; at += 16) {
      void this.#byCall.get(formatId(ids, at))?.end(false);
    }
  }

  /** The worker is gone. */
  close(): void {
    for (const scope of this.#byCall.values()) void scope.end(false);
    this.#byCall.clear();
  }
}
