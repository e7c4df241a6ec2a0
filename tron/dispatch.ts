import { FuncatronError, toFuncatronError } from '../core/errors.ts';
import { newId } from '../core/id.ts';
import type { CounterMetric } from '../core/metrics.ts';
import type { Command, Outcome } from './commands.ts';
import { forward } from './forward.ts';
import type { Leadership } from './leadership.ts';
import type { Replies } from './replies.ts';

export interface DispatchOptions {
  /** The lead, while this Tron has it. */
  leadership(): Leadership | undefined;
  readonly replies: Replies;
  readonly leaseMs: number;
  readonly deployTimeoutMs: number;
  /** Whether this Tron is stopping and there cannot be another one. */
  isLast(): boolean;
  /** By type and code. */
  readonly counter: CounterMetric;
}

/**
 * Carries out a command here while this Tron leads, otherwise through whoever does. When the lead is lost on the way
 * the next leader gets the command under the same id, and joins what was begun.
 */
export function createDispatch(options: DispatchOptions): (command: Command) => Promise<Outcome> {
  const { replies, leaseMs, deployTimeoutMs, counter } = options;

  async function here(id: string, command: Command): Promise<Outcome | undefined> {
    try {
      return await options.leadership()?.execute(id, command);
    } catch (error) {
      if (error instanceof FuncatronError && error.code === 'NO_LEADER') return undefined;
      throw error;
    }
  }

  async function carryOut(id: string, command: Command): Promise<Outcome> {
    const outcome = await here(id, command);
    if (outcome !== undefined) return outcome;
    if (options.isLast()) throw new FuncatronError('SHUTTING_DOWN', 'this tron is stopping, and there is no other');
    // A removal waits for the frontends, and then for the drain.
    const timeoutMs = 2 * leaseMs + (command.type === 'members' ? 0 : 2 * deployTimeoutMs);
    return forward({ replies, timeoutMs }, id, command);
  }

  return async (command) => {
    try {
      const outcome = await carryOut(newId(), command);
      counter.add([command.type, 'ok']);
      return outcome;
    } catch (error) {
      counter.add([command.type, toFuncatronError(error).code]);
      throw error;
    }
  };
}
