import { FuncatronError } from '../core/errors.ts';

/** How many workers of all bundles together this runner may have. */
export class WorkerBudget {
  readonly #max: number;
  #taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get taken(): number {
    return this.#taken;
  }

  get isSpent(): boolean {
    return this.#taken >= this.#max;
  }

  /** @throws OVERLOADED when there is no room for one more worker */
  take(): void {
    if (this.isSpent) {
      throw new FuncatronError('OVERLOADED', `no room for a worker: the runner has its ${this.#max} workers`, {
        data: { hint: 'add a runner, or raise --max-workers' },
      });
    }
    this.#taken++;
  }

  give(): void {
    this.#taken--;
  }
}
