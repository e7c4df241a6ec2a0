import type { WheelEntry } from '../core/deadline.ts';
import { STREAM_ID_BYTES } from '../core/wire/direct.ts';
import type { HeldCall } from './call.ts';
import type { Exchange } from './direct/exchange.ts';
import type { Worker } from './isolate/isolate.ts';

/**
 * One worker of a revision as its host sees it.
 *
 * `starting` → `ready` → `gone`; `ready` → `retiring` (takes no new calls, ends after its last one) → `gone`.
 */
export class HostedWorker implements WheelEntry {
  state: 'starting' | 'ready' | 'retiring' | 'gone' = 'starting';
  /** There once it is ready. */
  isolate: Worker | undefined;
  /** It has answered a call: what kills it later is that call's doing, not the bundle's. */
  hasAnswered = false;
  readonly running = new Set<HeldCall>();
  /** Bodies on their way in or out of it, by the id of their call as latin1. */
  readonly exchanges = new Map<string, Exchange>();
  readonly startedAt = performance.now();
  /** `performance.now()` when it came to take calls; 0 before. */
  #readyAt = 0;
  /** `performance.now()` when its last call ended; means something only while it runs none. */
  idleSince = this.startedAt;
  /** For the deadline wheel: the earliest deadline it is watched for, cluster time; 0 = not watched. */
  watchedDeadline = 0;
  tick = 0;
  readonly #concurrency: number;
  readonly #bodiesTakeSlots: boolean;
  readonly #onDeadline: (worker: HostedWorker) => void;

  /** @param bodiesTakeSlots whether what makes the body of an answer can do nothing else meanwhile */
  constructor(concurrency: number, bodiesTakeSlots: boolean, onDeadline: (worker: HostedWorker) => void) {
    this.#concurrency = concurrency;
    this.#bodiesTakeSlots = bodiesTakeSlots;
    this.#onDeadline = onDeadline;
  }

  /** Slots no call is in. */
  get free(): number {
    return this.state === 'ready' ? this.#concurrency - this.running.size - this.#bodies : 0;
  }

  /** Calls that are answered but for their bodies, and keep their slots until these have left. */
  get #bodies(): number {
    if (!this.#bodiesTakeSlots || this.exchanges.size === 0) return 0;
    let count = this.exchanges.size;
    for (const { id } of this.running) if (this.exchanges.has(id.toString('latin1', 0, STREAM_ID_BYTES))) count--;
    return count;
  }

  /** Whether it would be missed now. */
  get isBusy(): boolean {
    return this.running.size > 0 || this.exchanges.size > 0;
  }

  /** Calls here whose funcs wait for calls they made. */
  get lenders(): number {
    let count = 0;
    if (this.state === 'ready') for (const call of this.running) if (call.invokes > 0) count++;
    return count;
  }

  /** Slots for calls that others wait for: the free ones, and those of calls that wait. */
  get lendable(): number {
    return this.state === 'ready' ? this.free + this.lenders : 0;
  }

  /** How long a call that came at `arrivedAt` waited for it to start; 0 when it was there. */
  coldMs(arrivedAt: number): number {
    return arrivedAt >= this.#readyAt ? 0 : this.#readyAt - Math.max(this.startedAt, arrivedAt);
  }

  /** False when it died meanwhile. */
  becomeReady(): boolean {
    if (this.state !== 'starting') return false;
    this.state = 'ready';
    this.#readyAt = performance.now();
    this.idleSince = this.#readyAt;
    return true;
  }

  expire(): void {
    this.#onDeadline(this);
  }
}
