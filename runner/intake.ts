import type { Broker, Consumer, Delivery } from '../core/broker/broker.ts';
import type { TimerWheel, WheelEntry } from '../core/deadline.ts';
import type { Log } from '../core/log.ts';

/** How often it looks whether it holds too few messages, or too many. */
const LOOK_MS = 20;
/** After calls had to wait for slots it takes no more messages than then for so long. */
const REST_MS = 200;
/** When half of the credit would have done for so long, the last part of it goes. */
const QUIET_MS = 5_000;

/** What is held here now, and what there is place for. */
export interface Holding {
  /** Messages that came from the queue and are not acknowledged, and their calls that are not answered for good. */
  readonly deliveries: number;
  readonly calls: number;
  /** Free slots, those of workers that may still be started among them, less the calls that wait for one. */
  readonly room: number;
}

export interface IntakeOptions {
  readonly broker: Broker;
  readonly queue: string;
  /** Messages that fill all slots when each of them is full: with so many it begins. And the most there may be. */
  readonly least: number;
  readonly most: number;
  readonly wheel: TimerWheel;
  readonly log: Log;
  /** 5 s when absent. */
  readonly quietMs?: number;
  holding(): Holding;
  onDelivery(delivery: Delivery): void;
}

interface Part {
  readonly consumer: Consumer;
  readonly prefetch: number;
}

/**
 * Takes the messages of one queue, as many at a time as there are slots for the calls in them.
 *
 * RabbitMQ counts messages, not calls, and cannot change how many it hands out to a consumer. Messages of one call each,
 * of a func that waits for something slow, would leave most slots empty; as many full ones as there are slots would
 * be hoarded here while other runners are idle. So this begins with as many as fill the slots when they are full, and as
 * long as all it may hold are here and slots are free, it consumes once more, with as much credit again as there are
 * slots for messages of the kind it holds. What was added goes when calls wait for slots, and when it is quiet.
 */
export class Intake implements WheelEntry {
  readonly #options: IntakeOptions;
  readonly #parts: Part[] = [];
  #credit = 0;
  /** `performance.now()` when half of the credit was needed the last time. */
  #neededAt = 0;
  #restsUntil = 0;
  #isWatched = false;
  #isClosed = false;
  /** Consumers come and go one at a time. */
  #changing: Promise<void> = Promise.resolve();
  #isChanging = false;
  tick = 0;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Begins to consume. @throws BROKER_DOWN, INTERNAL as `Broker.consume` */
  open(): Promise<void> {
    return this.#change(() => this.#consume(this.#options.least));
  }

  /** Messages that may be unacknowledged here at once. */
  get credit(): number {
    return this.#credit;
  }

  /** Takes nothing more; what has come stays with its receiver. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#options.wheel.remove(this);
    await this.#changing;
    await Promise.all(this.#parts.splice(0).map(({ consumer }) => consumer.cancel()));
    this.#credit = 0;
  }

  expire(): void {
    this.#isWatched = false;
    this.#look();
  }

  #look(): void {
    const { broker, most, least } = this.#options;
    if (this.#isClosed || this.#isChanging || broker.state !== 'ready') return this.#watch();
    const { deliveries, calls, room } = this.#options.holding();
    if (this.#credit > least && this.#isTooMuch(deliveries, room)) {
      void this.#change(() => this.#cancelLast());
    } else if (deliveries >= this.#credit && performance.now() >= this.#restsUntil) {
      const more = Math.min(this.#credit, most - this.#credit, Math.floor(room / Math.max(1, calls / deliveries)));
      if (more > 0) void this.#change(() => this.#consume(more));
    }
    if (this.#credit > least || deliveries >= this.#credit) this.#watch();
  }

  #isTooMuch(deliveries: number, room: number): boolean {
    const now = performance.now();
    if (room < 0) {
      this.#restsUntil = now + REST_MS;
      return true;
    }
    if (deliveries * 2 > this.#credit) this.#neededAt = now;
    return now - this.#neededAt > (this.#options.quietMs ?? QUIET_MS);
  }

  #watch(): void {
    if (this.#isWatched || this.#isClosed) return;
    this.#isWatched = true;
    this.#options.wheel.add(this, LOOK_MS);
  }

  #onDelivery(delivery: Delivery): void {
    this.#options.onDelivery(delivery);
    if (!this.#isWatched && this.#options.holding().deliveries >= this.#credit) this.#look();
  }

  async #consume(prefetch: number): Promise<void> {
    if (this.#isClosed) return;
    const { broker, queue } = this.#options;
    this.#neededAt = performance.now();
    this.#credit += prefetch; // Its first messages may be here before the broker has said yes.
    try {
      const consumer = await broker.consume(queue, { prefetch }, (delivery) => this.#onDelivery(delivery));
      this.#parts.push({ consumer, prefetch });
    } catch (error) {
      this.#credit -= prefetch;
      throw error;
    }
  }

  /** What it holds stays here, and may be more than the credit for a while. */
  async #cancelLast(): Promise<void> {
    const part = this.#parts.pop();
    if (part === undefined) return;
    this.#neededAt = performance.now();
    this.#credit -= part.prefetch;
    await part.consumer.cancel();
  }

  #change(step: () => Promise<void>): Promise<void> {
    this.#isChanging = true;
    const change = this.#changing.then(step);
    this.#changing = change
      .catch((error: unknown) => {
        // The first consumer's failure is its opener's; without more of them this runner only takes fewer calls at once.
        this.#options.log.debug(
          { err: error, queue: this.#options.queue },
          'cannot change what is taken off the queue',
        );
      })
      .finally(() => (this.#isChanging = false));
    return change;
  }
}
