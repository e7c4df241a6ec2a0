import { delay } from '../../core/lifecycle.ts';

/** Waits until `condition` holds, looking every 10 ms; throws with `what` after `timeoutMs`. For tests: never sleep, wait for what you mean. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await delay(10);
  }
}
