import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { LOG_LEVELS, type LogLevel } from '../../core/log.ts';
import { LOG_LINE_CHARS } from '../isolate/bridge.ts';
import type { WorkerEvents } from '../isolate/isolate.ts';
import { LineBudget } from '../line-budget.ts';

/** A program may write so many lines a second, and twice that at once; more are dropped and counted. */
const LINES_PER_SECOND = 1000;

/**
 * Makes log lines of what a program writes to one of its streams, a line each. Longer lines are cut; the rest of a
 * stream without line ends is dropped as it comes, so that nothing here grows.
 * @param lowest lines of a lower level are dropped; read they are all the same, or the program would wait
 */
export function logOutput(
  stream: Readable | null,
  level: LogLevel,
  events: Pick<WorkerEvents, 'onLog'>,
  lowest: LogLevel = 'debug',
): void {
  const isWanted = LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(lowest);
  const budget = new LineBudget(LINES_PER_SECOND);
  const decoder = new StringDecoder('utf8');
  let rest = '';
  const put = (line: string): void => {
    const message = line.replace(/\r$/, '').slice(0, LOG_LINE_CHARS);
    if (!isWanted || message === '' || !budget.take()) return;
    const dropped = budget.takeDropped();
    events.onLog({ time: Date.now(), level, message, ...(dropped > 0 ? { dropped } : {}) });
  };
  stream?.on('data', (chunk: Buffer | string) => {
    // A second reader of stderr has set it to latin1, in which every byte is a character.
    const lines = decoder.write(typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk).split('\n');
    lines[0] = (rest + (lines[0] ?? '')).slice(0, LOG_LINE_CHARS + 1);
    rest = lines.pop() ?? '';
    for (const line of lines) put(line);
  });
  stream?.on('close', () => put(rest));
  // EIO and ECONNRESET are how the program's death looks from here; its exit is told by the process.
  stream?.on('error', () => undefined);
}
