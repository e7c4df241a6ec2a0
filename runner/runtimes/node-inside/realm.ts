import { CELLS, type Guest, WINDOW_AT, WINDOW_BYTES } from '../../isolate/bridge.ts';
import { guest } from '../../isolate/guest.inside.ts';

/** In place of the host's own: there is one realm, this one, and Node runs its microtasks and its timers. */
export class Realm {
  readonly guest: Guest = guest;
  readonly cells = new Int32Array(guest.shared, 0, CELLS);
  readonly window = Buffer.from(guest.shared, WINDOW_AT, WINDOW_BYTES);
  readonly timerDueMs = Infinity;
  isLoaded = false;
  isDropped = false;
  isTouched = false;

  startClock(): void {
    // Node's clock runs.
  }

  setNow(): void {
    // Node's clock runs.
  }

  tick(): void {
    // Node does.
  }
}

export function createRealm(): Realm {
  return new Realm();
}
