import type { ServerResponse } from 'node:http';
import { TimerWheel, type WheelEntry } from '../core/deadline.ts';

/** A client has once to twice this long for an answer whose turn it is: 1 MiB at 17 to 35 KB a second. */
const LOOK_MS = 30_000;

/**
 * Answers the kernel did not take at once, because their clients read slowly or not at all. Who does not finish in
 * time loses the connection: what is kept for it counts against everybody's room.
 */
export class UnreadAnswers {
  readonly #wheel = new TimerWheel(100);
  readonly #lookMs: number;

  constructor(lookMs = LOOK_MS) {
    this.#lookMs = lookMs;
  }

  /** Watches over an answer that has been written; `remove` the entry when it is gone. */
  add(res: ServerResponse): WheelEntry {
    const entry = new UnreadAnswer(res, (again) => this.#wheel.add(again, this.#lookMs));
    this.#wheel.add(entry, this.#lookMs);
    return entry;
  }

  remove(entry: WheelEntry): void {
    this.#wheel.remove(entry);
  }
}

class UnreadAnswer implements WheelEntry {
  tick = 0;
  readonly #res: ServerResponse;
  readonly #lookAgain: (entry: WheelEntry) => void;
  #hadItsTurn = false;

  constructor(res: ServerResponse, lookAgain: (entry: WheelEntry) => void) {
    this.#res = res;
    this.#lookAgain = lookAgain;
  }

  expire(): void {
    const { socket } = this.#res;
    if (this.#hadItsTurn) return void socket?.destroy();
    // Without a socket it waits for the answer to a request before it, which may take as long as its func.
    this.#hadItsTurn = socket !== null;
    this.#lookAgain(this);
  }
}
