/** What came of steady calls to one URL. */
export interface Traffic {
  /** Answers by `status` or `status CODE`; `broken` where the connection was. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** Answers so far. */
  count(): number;
  stop(): Promise<void>;
}

/** Calls `url` over and over, `parallel` at a time, until it is stopped. */
export function startTraffic(url: string, parallel: number, init: RequestInit = {}): Traffic {
  const outcomes = new Map<string, number>();
  let count = 0;
  const stop = new AbortController();

  async function loop(): Promise<void> {
    while (!stop.signal.aborted) {
      const outcome = await outcomeOf(url, init);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      count++;
    }
  }
  const loops = Promise.all(Array.from({ length: parallel }, loop));
  return {
    outcomes,
    count: () => count,
    async stop() {
      stop.abort();
      await loops;
    },
  };
}

/** One call: `200`, `503 NO_RUNNER`, or `broken`. */
export async function outcomeOf(url: string, init: RequestInit = {}): Promise<string> {
  try {
    const response = await fetch(url, init);
    const text = await response.text();
    if (!response.headers.get('content-type')?.startsWith('application/problem+json')) return String(response.status);
    return `${response.status} ${(JSON.parse(text) as { code: string }).code}`;
  } catch {
    return 'broken';
  }
}
