import { delay, within } from '../core/lifecycle.ts';
import type { HostedWorker } from './hosted-worker.ts';
import type { Worker } from './isolate/isolate.ts';

/** How often a worker without calls is asked whether it lives, and how long it may take to say so. */
const HEARTBEAT_MS = 5_000;

/**
 * Kills a worker that loops while it has no call: no deadline would ever find it. Settles when the worker is gone or
 * retires, or the signal aborts; never rejects.
 */
export async function watchHeartbeat(worker: HostedWorker, isolate: Worker, signal: AbortSignal): Promise<void> {
  for (;;) {
    await delay(HEARTBEAT_MS, signal);
    if (worker.state !== 'ready' || signal.aborted) return;
    // Nor while a body takes its last slot: what makes that may block it, and is over when its client hangs up.
    if (worker.running.size > 0 || worker.free < 1) continue;
    // A call that came meanwhile has its deadline.
    if (!(await hasPulse(isolate, HEARTBEAT_MS)) && worker.running.size === 0) isolate.kill();
  }
}

/** Whether a worker answers within `ms`; not once it is gone. */
export async function hasPulse(isolate: Worker, ms: number): Promise<boolean> {
  let isAlive = false;
  const pong = isolate.ping().then(() => (isAlive = true));
  try {
    await within(pong, ms, 'no pong');
  } catch {
    // Perhaps it was this process that was busy for so long: timers run before sockets are read, so the answer may be
    // there and unread. After `setImmediate` it has been read.
    await new Promise(setImmediate);
  }
  return isAlive;
}
