import type { CallLog } from './call-log.ts';
import { nowMs, timeOrigin } from './clock.ts';
import { cut, errorOf, format, inspect } from './inspect.ts';
import { mayLog, putLog, takeDropped } from './outbox.ts';

/** `console` and `context.log`: lines for the host, made here, as JSON. */

export type Level = 'debug' | 'info' | 'warn' | 'error';

/** Levels by weight. */
export const WEIGHTS: Readonly<Record<string, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** The call a line belongs to. */
export interface LogSubject {
  readonly operationId: string;
  readonly id: string;
  /** Set where the caller asked for a log of its own. */
  readonly log?: CallLog | undefined;
}

const { stringify } = JSON;
const MAX_FIELDS_CHARS = 8 * 1024;
let running: LogSubject | undefined;
let lowest = 0;

/** Sets the level below which lines are dropped, unless their call has one of its own. */
export function setLogLevel(level: string | undefined): void {
  lowest = WEIGHTS[level ?? ''] ?? 0;
}

/** Whether a line is to be made at all: asked before anything is formatted. */
function isWanted(level: Level, subject: LogSubject | undefined): boolean {
  return (WEIGHTS[level] ?? 0) >= (subject?.log?.weight ?? lowest);
}

/** Says which call runs now: a line of `console` made before its first `await` names it. */
export function setRunning(subject: LogSubject | undefined): void {
  running = subject;
}

/** Writes a line; drops and counts it when there are too many in one turn. Never throws. */
function write(level: Level, message: string, fields: unknown, subject: LogSubject | undefined): void {
  if (!isWanted(level, subject)) return;
  const isReturned = subject?.log?.hasRoom() === true;
  const isShipped = mayLog();
  if (!isShipped && !isReturned) return;
  const line = { time: Math.round(timeOrigin + nowMs()), level, message: cut(message), fields: plainFields(fields) };
  if (isReturned) subject.log?.add(line);
  if (!isShipped) return;
  const dropped = takeDropped();
  const { operationId, id: callId } = subject ?? NOBODY;
  putLog(stringify({ ...line, operationId, callId, dropped: dropped > 0 ? dropped : undefined }));
}

const NOBODY = { operationId: undefined, id: undefined };

/** The fields as JSON can carry them; what it cannot becomes text. */
function plainFields(fields: unknown): unknown {
  if (fields === undefined || fields === null) return undefined;
  if (fields instanceof Error) return { error: errorOf(fields) };
  if (typeof fields !== 'object') return { value: inspect(fields) };
  try {
    const json = stringify(fields, (_key, value: unknown) => {
      if (value instanceof Error) return errorOf(value);
      return typeof value === 'bigint' ? `${value}n` : value;
    });
    if (json.length <= MAX_FIELDS_CHARS) return JSON.parse(json);
  } catch {
    // A cycle or a throwing toJSON: shown as text instead.
  }
  return { value: cut(inspect(fields)) };
}

/** A func threw: its words and its stack go to the log, never to the caller. */
export function reportThrown(message: string, thrown: unknown, subject: LogSubject | undefined): void {
  const { name, message: text, stack } = errorOf(thrown);
  write('error', `${message}: ${name}: ${text}`, stack === '' ? undefined : { stack }, subject);
}

/** Something threw that no call waits for. */
export function reportUncaught(where: string, thrown: unknown): void {
  reportThrown(`uncaught in ${where}`, thrown, undefined);
}

/** `context.log`. */
export class Logger {
  readonly #subject: LogSubject | undefined;
  constructor(subject: LogSubject | undefined) {
    this.#subject = subject;
  }
  debug(message: unknown, fields?: unknown): void {
    if (isWanted('debug', this.#subject)) write('debug', textOf(message), fields, this.#subject);
  }
  info(message: unknown, fields?: unknown): void {
    if (isWanted('info', this.#subject)) write('info', textOf(message), fields, this.#subject);
  }
  warn(message: unknown, fields?: unknown): void {
    if (isWanted('warn', this.#subject)) write('warn', textOf(message), fields, this.#subject);
  }
  error(message: unknown, fields?: unknown): void {
    if (isWanted('error', this.#subject)) write('error', textOf(message), fields, this.#subject);
  }
}

function textOf(message: unknown): string {
  return typeof message === 'string' ? message : inspect(message);
}

function printer(level: Level): (...args: unknown[]) => void {
  return (...args) => {
    if (isWanted(level, running)) write(level, format(args), undefined, running);
  };
}

const counts = new Map<string, number>();
const starts = new Map<string, number>();

/** The bundle's `console`. Levels: `log` and `info` are info, `debug` and `trace` debug. */
export const console = {
  log: printer('info'),
  info: printer('info'),
  debug: printer('debug'),
  warn: printer('warn'),
  error: printer('error'),
  trace: printer('debug'),
  dir: (value: unknown): void => write('info', cut(inspect(value)), undefined, running),
  table: (value: unknown): void => write('info', cut(inspect(value)), undefined, running),
  group: printer('info'),
  groupCollapsed: printer('info'),
  groupEnd: (): void => undefined,
  assert: (isTrue: unknown, ...args: unknown[]): void => {
    if (!isTrue) write('error', `assertion failed${args.length > 0 ? `: ${format(args)}` : ''}`, undefined, running);
  },
  count: (label: unknown = 'default'): void => {
    const key = cut(String(label));
    const count = (counts.get(key) ?? 0) + 1;
    if (counts.size < 1000 || counts.has(key)) counts.set(key, count);
    write('info', `${key}: ${count}`, undefined, running);
  },
  countReset: (label: unknown = 'default'): void => void counts.delete(String(label)),
  time: (label: unknown = 'default'): void => {
    if (starts.size < 1000) starts.set(String(label), nowMs());
  },
  timeEnd: (label: unknown = 'default'): void => {
    const start = starts.get(String(label));
    if (start === undefined) return;
    starts.delete(String(label));
    write('info', `${String(label)}: ${nowMs() - start} ms`, undefined, running);
  },
};
