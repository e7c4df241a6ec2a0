import { FuncatronError } from '../core/errors.ts';

/** How often somebody who waits for room looks for a worker that has become idle. */
const LOOK_MS = 50;

/** Whoever has workers and can do without one. */
export interface Lender {
  /** Whether it has more workers than it keeps in any case, idle or not. */
  readonly hasSpare: boolean;
  /** `performance.now()` since when the worker it would end is idle; `undefined` while it needs all it has. */
  idleSince(): number | undefined;
  /** Ends that worker; `give` follows when it is gone. */
  endIdle(): void;
}

interface Asker {
  resolve(): void;
}

/**
 * How many workers of all bundles together this runner may have. When it has them all, a bundle that needs one gets the
 * room of the worker that has been idle longest and that its own bundle can do without.
 */
export class WorkerBudget {
  readonly #max: number;
  readonly #lenders = new Set<Lender>();
  /** First come, first served; bounded by the revisions a runner holds: each starts one worker at a time. */
  readonly #askers = new Set<Asker>();
  #taken = 0;
  /** Workers that end to make room and are not gone yet. */
  #leaving = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(max: number) {
    this.#max = max;
  }

  get taken(): number {
    return this.#taken;
  }

  get isSpent(): boolean {
    return this.#taken >= this.#max;
  }

  add(lender: Lender): void {
    this.#lenders.add(lender);
  }

  remove(lender: Lender): void {
    this.#lenders.delete(lender);
  }

  /**
   * Takes room for one worker; where there is none, waits until a spare worker has ended, for up to `waitMs` or until
   * the signal aborts.
   * @throws OVERLOADED when there is none by then, at once when no worker is spare
   */
  async take(waitMs: number, signal: AbortSignal): Promise<void> {
    if (!this.isSpent && this.#askers.size === 0) {
      this.#taken++;
      return;
    }
    if (this.#leaving === 0 && !this.#hasSpare()) throw noRoom(this.#max);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const asker = { resolve };
    this.#askers.add(asker);
    const giveUp = (): void => {
      this.#askers.delete(asker);
      reject(noRoom(this.#max));
    };
    const timer = setTimeout(giveUp, waitMs);
    signal.addEventListener('abort', giveUp);
    if (signal.aborted) giveUp();
    this.#look();
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
    }
  }

  give(): void {
    this.#taken--;
    this.#leaving = Math.max(0, this.#leaving - 1);
    for (const asker of this.#askers) {
      if (this.isSpent) return;
      this.#taken++;
      this.#askers.delete(asker);
      asker.resolve();
    }
  }

  /** Ends as many idle workers as there are askers; looks again while there are fewer. */
  #look(): void {
    while (this.#leaving < this.#askers.size) {
      const lender = this.#longestIdle();
      if (lender === undefined) break;
      this.#leaving++;
      lender.endIdle();
    }
    if (this.#askers.size === 0 || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#look();
    }, LOOK_MS);
  }

  #hasSpare(): boolean {
    for (const lender of this.#lenders) if (lender.hasSpare) return true;
    return false;
  }

  #longestIdle(): Lender | undefined {
    let longest: Lender | undefined;
    let since = Infinity;
    for (const lender of this.#lenders) {
      const idleSince = lender.idleSince() ?? Infinity;
      if (idleSince >= since) continue;
      since = idleSince;
      longest = lender;
    }
    return longest;
  }
}

function noRoom(max: number): FuncatronError {
  return new FuncatronError(
    'OVERLOADED',
    `no room for a worker: the runner has its ${max} workers, none of them spare`,
    {
      data: { hint: 'add a runner, or raise --max-workers' },
    },
  );
}
