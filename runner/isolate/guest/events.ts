import { nowMs } from './clock.ts';
import { reportUncaught } from './log.ts';

/** `Event` and `EventTarget`, without a tree: nothing bubbles. Source: https://dom.spec.whatwg.org/#events */

let isStopped: (event: Event) => boolean;

export class Event {
  readonly type: string;
  readonly cancelable: boolean;
  readonly bubbles: boolean;
  readonly timeStamp = nowMs();
  target: EventTarget | null = null;
  defaultPrevented = false;
  #isStopped = false;

  constructor(type: unknown, options: { cancelable?: boolean; bubbles?: boolean } = {}) {
    this.type = String(type);
    this.cancelable = Boolean(options.cancelable);
    this.bubbles = Boolean(options.bubbles);
  }
  get currentTarget(): EventTarget | null {
    return this.target;
  }
  preventDefault(): void {
    if (this.cancelable) this.defaultPrevented = true;
  }
  stopPropagation(): void {
    // Nothing propagates.
  }
  stopImmediatePropagation(): void {
    this.#isStopped = true;
  }
  static {
    isStopped = (event) => event.#isStopped;
  }
}

export class CustomEvent extends Event {
  readonly detail: unknown;
  constructor(type: string, options: { cancelable?: boolean; bubbles?: boolean; detail?: unknown } = {}) {
    super(type, options);
    this.detail = options.detail ?? null;
  }
}

type Callback = ((event: Event) => unknown) | { handleEvent(event: Event): unknown };
interface Listener {
  readonly type: string;
  readonly callback: Callback;
  readonly isOnce: boolean;
  isRemoved: boolean;
}
interface ListenerOptions {
  once?: boolean;
  signal?: EventTarget & { readonly aborted: boolean };
}

export class EventTarget {
  #listeners: Listener[] = [];

  addEventListener(type: unknown, callback: Callback | null, options?: boolean | ListenerOptions): void {
    if (callback === null || callback === undefined) return;
    const name = String(type);
    const { once, signal } = typeof options === 'object' ? options : {};
    if (signal?.aborted) return;
    if (this.#listeners.some((listener) => listener.type === name && listener.callback === callback)) return;
    this.#listeners.push({ type: name, callback, isOnce: Boolean(once), isRemoved: false });
    signal?.addEventListener('abort', () => this.removeEventListener(name, callback), { once: true });
  }

  removeEventListener(type: string, callback: Callback | null): void {
    this.#listeners = this.#listeners.filter((listener) => {
      if (listener.type !== type || listener.callback !== callback) return true;
      listener.isRemoved = true;
      return false;
    });
  }

  dispatchEvent(event: Event): boolean {
    event.target = this;
    const own: unknown = (this as unknown as Record<string, unknown>)[`on${event.type}`];
    if (typeof own === 'function') this.#call(own as (event: Event) => unknown, event);
    for (const listener of this.#listeners) {
      if (isStopped(event)) break;
      if (listener.type !== event.type || listener.isRemoved) continue;
      if (listener.isOnce) this.removeEventListener(listener.type, listener.callback);
      this.#call(listener.callback, event);
    }
    return !event.defaultPrevented;
  }

  #call(callback: Callback, event: Event): void {
    try {
      if (typeof callback === 'function') Reflect.apply(callback, this, [event]);
      else callback.handleEvent(event);
    } catch (thrown) {
      reportUncaught(`a listener of ${event.type}`, thrown);
    }
  }
}
