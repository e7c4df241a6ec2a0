/**
 * Where the time went, in milliseconds: `frontend` from the request to the queue, `queue` on the way to the func and
 * back with the wait for a slot, `func` in it. Before a call was sent, all of it is the frontend's. W3C Server Timing.
 * @param sentAt 0 when it was not sent
 */
export function serverTiming(startedAt: number, sentAt: number, funcUs: number): string {
  const now = performance.now();
  if (sentAt === 0) return `frontend;dur=${millis(now - startedAt)}`;
  const func = funcUs / 1000;
  return `frontend;dur=${millis(sentAt - startedAt)}, queue;dur=${millis(Math.max(0, now - sentAt - func))}, func;dur=${millis(func)}`;
}

/** Two decimals; four times as fast as `toFixed`. */
function millis(ms: number): number {
  return Math.round(ms * 100) / 100;
}
