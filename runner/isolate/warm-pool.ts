import { availableParallelism } from 'node:os';
import { backoffMs } from '../../core/deadline.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import { FrameKind } from './channel.ts';
import type { Child } from './child.ts';

/** More processes than processors that come up at once only make each other late. */
const BOOTS_AT_ONCE = Math.max(2, availableParallelism());
/** How long the machine is left to the workers that have just started before the pool is filled up. */
const REFILL_MS = 50;
/** How long a process of the pool may take to come up. */
const REFILL_UP_MS = 15_000;

export interface WarmPoolOptions {
  /** Processes kept ready; 0 = none. */
  readonly size: number;
  /** What they are started with. */
  readonly memoryMb: number;
  readonly log: Log;
  launch(memoryMb: number, upMs: number): Child;
}

interface Order {
  readonly memoryMb: number;
  readonly upMs: number;
  resolve(child: Child): void;
  reject(error: unknown): void;
}

/**
 * Processes of workers: some are kept ready, without a bundle, the others are started when they are asked for, no more
 * at once than the machine has processors. The pool is filled up in the background, one by one, and only while no
 * worker is starting; processes that die in it are replaced, more slowly each time.
 */
export class WarmPool implements Closable {
  readonly #options: WarmPoolOptions;
  /** Up, and nobody's. */
  #idle: Child[] = [];
  readonly #booting = new Set<Child>();
  /** Starts that wait for a process; bounded by the workers a runner may have. */
  #orders: Order[] = [];
  /** Workers that are starting. */
  #starting = 0;
  #deaths = 0;
  #refillTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: WarmPoolOptions) {
    this.#options = options;
  }

  /** How many processes wait for a bundle. */
  get ready(): number {
    return this.#idle.length;
  }

  /**
   * Gives a process that is up to `start`, which owns it from then on.
   * @param upMs how long one that is started for it may take to come up
   * @throws what kept it from coming up, and what `start` throws
   */
  async lend<T>(memoryMb: number, upMs: number, start: (child: Child) => Promise<T>): Promise<T> {
    this.#starting++;
    try {
      return await start(this.#takeIdle(memoryMb) ?? (await this.#order(memoryMb, upMs)));
    } finally {
      this.#starting--;
      this.#refillSoon();
    }
  }

  /** Ends the processes nobody has taken. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#refillTimer);
    const left = [...this.#idle, ...this.#booting];
    for (const order of this.#orders.splice(0)) order.reject(closed());
    for (const child of left) child.end('killed', 'its runner ends');
    await Promise.all(left.map((child) => child.exited));
  }

  #takeIdle(memoryMb: number): Child | undefined {
    if (memoryMb !== this.#options.memoryMb) return undefined;
    // The one that has waited longest: the others may still be at their rehearsal.
    const child = this.#idle.shift();
    if (child !== undefined) this.#deaths = 0;
    return child;
  }

  #order(memoryMb: number, upMs: number): Promise<Child> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(closed());
      this.#orders.push({ memoryMb, upMs, resolve, reject });
      this.#bootOrdered();
    });
  }

  /** Starts processes for the orders that none is on its way for, the oldest first. */
  #bootOrdered(): void {
    const coming = [...this.#booting].map((child) => child.memoryMb);
    for (const { memoryMb, upMs } of this.#orders) {
      const found = coming.indexOf(memoryMb);
      if (found !== -1) coming.splice(found, 1);
      else if (this.#booting.size < BOOTS_AT_ONCE) void this.#boot(memoryMb, upMs);
    }
  }

  async #boot(memoryMb: number, upMs: number): Promise<void> {
    let child: Child | undefined;
    let failure: unknown;
    try {
      child = this.#options.launch(memoryMb, upMs);
      this.#booting.add(child);
      await child.up;
    } catch (thrown) {
      failure = thrown;
      child?.end('killed', 'it did not come up');
    }
    if (child !== undefined) this.#booting.delete(child);
    if (this.#isClosed) return;
    const at = this.#orders.findIndex((order) => order.memoryMb === memoryMb);
    const [order] = at === -1 ? [] : this.#orders.splice(at, 1);
    this.#bootOrdered();
    if (child === undefined || failure !== undefined) return this.#failed(order, failure);
    if (order !== undefined) order.resolve(child);
    else this.#keep(child);
  }

  #failed(order: Order | undefined, failure: unknown): void {
    if (order !== undefined) return order.reject(failure);
    this.#options.log.warn({ err: failure }, 'a process for workers to come did not come up');
    this.#deaths++;
    this.#refillSoon();
  }

  #keep(child: Child): void {
    this.#idle.push(child);
    child.channel.send(FrameKind.rehearse);
    void child.exited.then((exit) => {
      const at = this.#idle.indexOf(child);
      if (at === -1) return;
      this.#idle.splice(at, 1);
      if (this.#isClosed) return;
      this.#options.log.warn({ pid: child.pid, ...exit }, 'a process that waited for a worker died');
      this.#deaths++;
      this.#refillSoon();
    });
    this.#refillSoon();
  }

  #refillSoon(): void {
    if (this.#refillTimer !== undefined || this.#isClosed || !this.#isShort()) return;
    const ms = this.#deaths === 0 ? REFILL_MS : backoffMs(this.#deaths, 200, 30_000);
    this.#refillTimer = setTimeout(() => {
      this.#refillTimer = undefined;
      // Otherwise the end of the start that is under way comes back to it.
      if (this.#isShort()) void this.#boot(this.#options.memoryMb, REFILL_UP_MS);
    }, ms);
  }

  #isShort(): boolean {
    return this.#starting === 0 && this.#booting.size === 0 && this.#idle.length < this.#options.size;
  }
}

function closed(): FuncatronError {
  return new FuncatronError('SHUTTING_DOWN', 'the runner ends: it starts no more workers');
}
