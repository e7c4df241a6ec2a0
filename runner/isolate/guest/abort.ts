import { DOMException } from './dom-exception.ts';
import { Event, EventTarget } from './events.ts';
import { setTimeout } from './timers.ts';

/** `AbortController` and `AbortSignal`. Source: https://dom.spec.whatwg.org/#aborting-ongoing-activities */

/** Only this file makes signals: the constructor is illegal for everybody else. */
const OWN = Symbol('own');
let abort: (signal: AbortSignal, reason: unknown) => void;

export class AbortSignal extends EventTarget {
  #isAborted = false;
  #reason: unknown = undefined;
  readonly #dependents: WeakRef<AbortSignal>[] = [];
  onabort: ((event: Event) => void) | null = null;

  static {
    abort = (signal, reason) => signal.#abort(reason);
  }

  constructor(key?: symbol) {
    super();
    if (key !== OWN) throw new TypeError('Illegal constructor');
  }

  get aborted(): boolean {
    return this.#isAborted;
  }
  get reason(): unknown {
    return this.#reason;
  }
  throwIfAborted(): void {
    if (this.#isAborted) throw this.#reason;
  }

  #abort(reason: unknown): void {
    if (this.#isAborted) return;
    this.#isAborted = true;
    this.#reason = reason === undefined ? new DOMException('This operation was aborted', 'AbortError') : reason;
    const event = new Event('abort');
    this.dispatchEvent(event);
    for (const reference of this.#dependents) {
      const dependent = reference.deref();
      if (dependent !== undefined) dependent.#abort(this.#reason);
    }
  }

  static abort(reason?: unknown): AbortSignal {
    const signal = new AbortSignal(OWN);
    signal.#abort(reason);
    return signal;
  }

  static timeout(ms: number): AbortSignal {
    const signal = new AbortSignal(OWN);
    setTimeout(() => signal.#abort(new DOMException('The operation timed out', 'TimeoutError')), ms);
    return signal;
  }

  static any(signals: Iterable<AbortSignal>): AbortSignal {
    const signal = new AbortSignal(OWN);
    for (const source of signals) {
      if (source.#isAborted) {
        signal.#abort(source.#reason);
        break;
      }
      source.#dependents.push(new WeakRef(signal));
    }
    return signal;
  }
}

export class AbortController {
  readonly #signal = new AbortSignal(OWN);
  get signal(): AbortSignal {
    return this.#signal;
  }
  abort(reason?: unknown): void {
    abort(this.#signal, reason);
  }
}
