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
 * How many calls this frontend holds at once, from the moment their bodies are there until they are answered, and how
 * many bytes: of bodies as they arrive, of answers until their clients have read them. More is refused, not queued: the
 * queue is RabbitMQ's. A client that only pretends to send a body, or to read an answer, takes no call's place.
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

  /** Whether `admit` would say yes. */
  hasRoom(revision: Admitted): boolean {
    const { maxInFlight, maxInFlightPerRevision, maxInFlightBytes } = this.#limits;
    return (
      this.#inFlight < maxInFlight && revision.inFlight < maxInFlightPerRevision && this.#bytes <= maxInFlightBytes
    );
  }

  /** Takes a call in, or returns false when there is no room. */
  admit(revision: Admitted): boolean {
    if (!this.hasRoom(revision)) return false;
    this.#inFlight++;
    revision.inFlight++;
    return true;
  }

  /** Gives back what `admit` took: once for each true. */
  release(revision: Admitted): void {
    this.#inFlight--;
    revision.inFlight--;
  }

  /** Takes room for bytes of a body that have arrived, or returns false when there is none. */
  admitBytes(bytes: number): boolean {
    if (this.#bytes + bytes > this.#limits.maxInFlightBytes) return false;
    this.#bytes += bytes;
    return true;
  }

  /** Counts bytes that are there whether there is room or not: an answer has run, and is not refused. */
  holdBytes(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Gives back what `admitBytes` or `holdBytes` took. */
  releaseBytes(bytes: number): void {
    this.#bytes -= bytes;
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
