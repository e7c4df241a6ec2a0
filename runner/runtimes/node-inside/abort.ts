/** Node's own, in place of the guest's: a func hands `context.signal` to Node's `fetch`, timers and streams. */
export const { AbortController, AbortSignal } = globalThis;
