import type { LogLine } from '../../core/wire/control.ts';
import { LOG_LEVELS, type LogLevel } from '../../core/log.ts';
import { LineBudget } from '../line-budget.ts';
import { LOG_LINE_CHARS } from './bridge.ts';
import type { WorkerEvents } from './isolate.ts';
import type { MapPositions } from './source-position.ts';

/** A worker may write so many lines a second, and twice that at once; more are dropped and counted. */
const LINES_PER_SECOND = 1000;
/** A frame beyond so many bytes a second is dropped unread: reading it would keep the runner from its calls. Four times what an honest host sends. */
const BYTES_PER_SECOND = 12 * 1024 * 1024;
/** A longer frame is dropped unread too: parsing it would hold everybody up. Frames of an honest host have 64 KiB, or one long line. */
const FRAME_BYTES = 512 * 1024;

/** Lines from a worker: checked, bounded, their stacks said in the author's files. */
export class WorkerLog {
  readonly #events: Pick<WorkerEvents, 'onLog'>;
  readonly #mapPositions: MapPositions;
  readonly #budget = new LineBudget(LINES_PER_SECOND);
  readonly #byteBudget = new LineBudget(BYTES_PER_SECOND);
  /** Frames dropped for their length, of which no line has told yet. */
  #tooLong = 0;
  /** Lines the worker itself dropped, of which no line has told yet. */
  #unsaid = 0;

  constructor(events: Pick<WorkerEvents, 'onLog'>, mapPositions: MapPositions) {
    this.#events = events;
    this.#mapPositions = mapPositions;
  }

  /** Takes a frame: a JSON list of lines; throws when it is not one. */
  write(payload: Buffer): void {
    if (payload.length > FRAME_BYTES) return void this.#tooLong++;
    if (!this.#byteBudget.take(payload.length)) return;
    const lines: unknown = JSON.parse(payload.toString());
    if (!Array.isArray(lines)) throw new TypeError('log frame is not a list');
    for (const line of lines) this.#writeOne(line as Record<string, unknown>);
  }

  #writeOne(line: Record<string, unknown>): void {
    this.#unsaid += Number(line['dropped']) || 0;
    if (!this.#budget.take()) return;
    const dropped = this.#unsaid + this.#tooLong + this.#budget.takeDropped() + this.#byteBudget.takeDropped();
    this.#unsaid = 0;
    this.#tooLong = 0;
    const { time, level, message, operationId, callId, fields } = line;
    this.#events.onLog({
      time: typeof time === 'number' ? time : Date.now(),
      level: LOG_LEVELS.includes(level as LogLevel) ? (level as LogLine['level']) : 'info',
      message: String(message).slice(0, LOG_LINE_CHARS),
      ...(typeof operationId === 'string' ? { operationId } : {}),
      ...(typeof callId === 'string' ? { callId } : {}),
      ...(isFields(fields) ? { fields: this.#mapped(fields) } : {}),
      ...(dropped > 0 ? { dropped } : {}),
    });
  }

  #mapped(fields: Record<string, unknown>): Record<string, unknown> {
    const { stack } = fields;
    return typeof stack === 'string' ? { ...fields, stack: this.#mapPositions(stack) } : fields;
  }
}

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
