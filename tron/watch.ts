import { lostLead } from './fenced-key.ts';

export interface WatchOptions {
  /** Things that may make the condition true, each with a way to hear of its changes. */
  readonly sources: readonly ((listener: () => void) => () => void)[];
  /** Absent: as long as this Tron leads. */
  readonly timeoutMs?: number;
  /** Aborts when this Tron no longer leads. */
  readonly signal: AbortSignal;
}

/**
 * Settles with `true` as soon as the condition holds, looking now and on every change of a source, or with `false`
 * after `timeoutMs`.
 * @throws NO_LEADER when the signal aborts, and what the condition throws
 */
export function watch(condition: () => boolean, options: WatchOptions): Promise<boolean> {
  const { sources, timeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const stops: (() => void)[] = [];
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', look);
      for (const stop of stops) stop();
      act();
    };
    function look(): void {
      try {
        if (signal.aborted) settle(() => reject(lostLead()));
        else if (condition()) settle(() => resolve(true));
      } catch (error) {
        settle(() => reject(error));
      }
    }
    for (const source of sources) stops.push(source(look));
    signal.addEventListener('abort', look);
    if (timeoutMs !== undefined) timer = setTimeout(() => settle(() => resolve(false)), Math.max(0, timeoutMs));
    look();
  });
}
