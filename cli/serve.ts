import type { Closable } from '../core/lifecycle.ts';
import { EXIT } from './failure.ts';
import type { Terminal } from './terminal.ts';

/**
 * One Ctrl-C often arrives twice: from the terminal, and again from `npm` or `bin/funcatron`, which pass it on.
 * Only a signal that comes this much later is a second wish.
 */
const SAME_SIGNAL_MS = 500;

/**
 * Lets a service run until SIGINT or SIGTERM, then closes it and settles with the exit code. A second signal ends
 * the process at once.
 */
export async function serveUntilSignal(terminal: Terminal, service: Closable): Promise<number> {
  await new Promise<void>((resolve) => {
    let firstAt: number | undefined;
    const onSignal = (): void => {
      const now = performance.now();
      if (firstAt === undefined) {
        firstAt = now;
        terminal.say('\ndraining: calls that have started are finished (Ctrl-C again ends at once)');
        resolve();
      } else if (now - firstAt > SAME_SIGNAL_MS) {
        process.exit(EXIT.interrupted);
      }
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
  await service.close();
  terminal.say('stopped');
  return EXIT.ok;
}
