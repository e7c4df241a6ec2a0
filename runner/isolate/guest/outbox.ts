import { Cell, Clock, LOG_CHARS_PER_S, LOG_LINES_PER_S, LOG_LINES_PER_TURN, Out } from '../bridge.ts';
import { nowMs } from './clock.ts';
import type { Stream } from './outgoing.ts';
import { cells, clocks, offer } from './shared.ts';

/**
 * What the guest has for the host, until the host takes it: the host pulls, the guest never calls. Replies, log lines,
 * operations, in that order of haste reversed: a log line of a call leaves before its reply.
 */

/** A finished call. `bytes` must be a copy that the bundle cannot reach. */
export interface Finished {
  readonly out: typeof Out.reply | typeof Out.failure;
  readonly slot: number;
  readonly status: number;
  readonly flags: number;
  readonly meta: string;
  readonly text: string;
  readonly bytes: Uint8Array | undefined;
  /** The body is made piece by piece: whoever ends the call begins to send it. */
  readonly body?: Stream | undefined;
  /** The number of a body that is on its way. */
  readonly stream?: number;
}

/** Anything else. */
interface Note {
  readonly out: number;
  readonly id: number;
  readonly text: string;
  readonly bytes: Uint8Array | undefined;
}

let replies: Finished[] = [];
let notes: Note[] = [];
let replyAt = 0;
let noteAt = 0;
/** Room for log lines, refilled as time passes: each crosses to the runner, which must not be kept busy reading them. */
let lineRoom = LOG_LINES_PER_TURN;
let charRoom = LOG_CHARS_PER_S;
let refilledMs = 0;
let droppedLines = 0;
let meta = '';
let timerDueMs: () => number = () => Infinity;
let onPut: () => void = () => undefined;

/** Says who knows when the next timer is due. */
export function watchTimers(dueMs: () => number): void {
  timerDueMs = dueMs;
}

/** Says who is told of everything put here: a host in the same realm, which cannot know when a promise of a func's settles. */
export function watchPuts(notify: () => void): void {
  onPut = notify;
}

export function putReply(reply: Finished): void {
  replies.push(reply);
  onPut();
}

export function putNote(out: number, id: number, text: string, bytes?: Uint8Array): void {
  notes.push({ out, id, text, bytes });
  onPut();
}

/** Whether there is room for another log line now; counts what is refused. */
export function mayLog(): boolean {
  const now = nowMs();
  if (now > refilledMs) {
    lineRoom = Math.min(LOG_LINES_PER_TURN, lineRoom + ((now - refilledMs) * LOG_LINES_PER_S) / 1000);
    charRoom = Math.min(LOG_CHARS_PER_S, charRoom + ((now - refilledMs) * LOG_CHARS_PER_S) / 1000);
    refilledMs = now;
  }
  if (lineRoom >= 1 && charRoom > 0) return true;
  droppedLines++;
  return false;
}

/** Lines refused since the last time this was asked. */
export function takeDropped(): number {
  const dropped = droppedLines;
  droppedLines = 0;
  return dropped;
}

/** Hands over a line as JSON; `mayLog` has been asked. */
export function putLog(json: string): void {
  lineRoom--;
  charRoom -= json.length;
  putNote(Out.log, 0, json);
}

/** See `Guest.take`. */
export function take(): string | undefined {
  const note = notes[noteAt];
  if (note !== undefined) {
    noteAt++;
    cells[Cell.out] = note.out;
    cells[Cell.id] = note.id;
    offer(note.bytes);
    return note.text;
  }
  const reply = replies[replyAt];
  if (reply !== undefined) {
    replyAt++;
    cells[Cell.out] = reply.out;
    cells[Cell.id] = reply.slot;
    cells[Cell.status] = reply.status;
    cells[Cell.flags] = reply.flags;
    meta = reply.meta;
    cells[Cell.meta] = meta === '' ? 0 : 1;
    cells[Cell.stream] = reply.stream ?? 0;
    offer(reply.bytes);
    return reply.text;
  }
  if (noteAt > 0) notes = [];
  if (replyAt > 0) replies = [];
  noteAt = 0;
  replyAt = 0;
  clocks[Clock.timerDueMs] = timerDueMs();
  return undefined;
}

/** See `Guest.takeMeta`. */
export function takeMeta(): string {
  return meta;
}
