/** Something opened that must be closed. `close` is idempotent: the second call waits for the first. */
export interface Closable {
  close(): Promise<void>;
}

/** Waits `ms`, or until the signal aborts, whichever is first; never rejects. */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done, { once: true });
  });
}

/**
 * Services pushed as they are opened, closed in reverse. `close` closes every one of them even when some fail,
 * gives each at most `stepMs`, and then throws an `AggregateError` of what failed.
 */
export class ServiceStack implements Closable {
  readonly #services: { name: string; close(): Promise<void> }[] = [];
  readonly #stepMs: number;
  #closing: Promise<void> | undefined;

  constructor(stepMs = 30_000) {
    this.#stepMs = stepMs;
  }

  /** Remembers a service and returns it. */
  push<T extends Closable>(name: string, service: T): T {
    this.#services.push({ name, close: () => service.close() });
    return service;
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeAll();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #closeAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const service of this.#services.toReversed()) {
      try {
        await within(service.close(), this.#stepMs, `close of ${service.name} took longer than ${this.#stepMs} ms`);
      } catch (cause) {
        failures.push(new Error(`close of ${service.name} failed`, { cause }));
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some services did not close');
  }
}

/** The promise's outcome, or an `Error` with `message` when it takes longer than `ms`. */
export async function within<T>(promise: Promise<T>, ms: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
