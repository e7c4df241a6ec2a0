import { TimerWheel, type WheelEntry } from '../core/deadline.ts';

/** What admission counts calls of. */
export interface Admitted {
  inFlight: number;
}

export interface AdmissionLimits {
  readonly maxInFlight: number;
  readonly maxInFlightPerRevision: number;
  readonly maxInFlightBytes: number;
}

/**
 * How many calls, and bytes of their bodies, this frontend holds at once, from the moment their route is known until
 * they are answered. More are refused, not queued: the queue is RabbitMQ's.
 */
export class Admission {
  readonly #limits: AdmissionLimits;
  #inFlight = 0;
  #bytes = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Takes a call in, or returns false when there is no room. `bodyBytes` is the most its body can be. */
  admit(revision: Admitted, bodyBytes: number): boolean {
    const limits = this.#limits;
    if (
      this.#inFlight >= limits.maxInFlight ||
      revision.inFlight >= limits.maxInFlightPerRevision ||
      this.#bytes + bodyBytes > limits.maxInFlightBytes
    ) {
      return false;
    }
    this.#inFlight++;
    this.#bytes += bodyBytes;
    revision.inFlight++;
    return true;
  }

  /** Gives back what `admit` took: once for each true. */
  release(revision: Admitted, bodyBytes: number): void {
    this.#inFlight--;
    this.#bytes -= bodyBytes;
    revision.inFlight--;
  }
}

/** A call that waits for a runner; `expire` is called when none came in time. */
export interface Waiter extends WheelEntry {
  /** There is a new route table: look again. It has left the room. */
  onRoutesChanged(): void;
}

/** Where calls wait, for a bounded time, until a new route table says that a runner holds their revision. */
export class WaitingRoom {
  readonly #wheel = new TimerWheel();
  #waiters = new Set<Waiter>();

  enter(waiter: Waiter, waitMs: number): void {
    this.#waiters.add(waiter);
    this.#wheel.add(waiter, waitMs);
  }

  /** Does nothing for one who is not there. */
  leave(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    this.#wheel.remove(waiter);
  }

  /** Lets everybody look at the new routes; who finds nothing may enter again. */
  onRoutesChanged(): void {
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const waiter of waiters) {
      this.#wheel.remove(waiter);
      waiter.onRoutesChanged();
    }
  }
}
