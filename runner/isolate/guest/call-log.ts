import type { CallLogLine, CallMeta } from '../../../core/wire/envelope.ts';
import { ReplyFlag } from '../../../core/wire/envelope.ts';
import { Out } from '../bridge.ts';
import { WEIGHTS } from './log.ts';
import type { Finished } from './outbox.ts';

/** The log of one call whose caller asked for it: its own level, and the lines that go back with the answer. */

/** Most characters of the lines of one call, as JSON; later ones are counted only. */
const MAX_CHARS = 512 * 1024;
const JSON_HEADERS = { 'content-type': 'application/json' };
const { parse, stringify } = JSON;

export class CallLog {
  /** Of the lowest level that is logged. */
  readonly weight: number | undefined;
  readonly #isReturned: boolean;
  readonly #lines: CallLogLine[] = [];
  #chars = 0;
  #dropped = 0;

  constructor(meta: string) {
    const { log } = parse(meta) as CallMeta;
    this.weight = WEIGHTS[log?.level ?? ''];
    this.#isReturned = log?.isReturned === true;
  }

  /** Whether the next line goes back to the caller; counts it where it would but there are too many. */
  hasRoom(): boolean {
    if (!this.#isReturned) return false;
    if (this.#chars < MAX_CHARS) return true;
    this.#dropped++;
    return false;
  }

  add(line: CallLogLine): void {
    this.#chars += stringify(line).length;
    this.#lines.push(line);
  }

  /** The answer with the lines: in the meta of what the func returned, in the data of a failure. */
  addTo(answer: Finished): Finished {
    if (!this.#isReturned) return answer;
    const log = this.#all();
    if (answer.out === Out.failure) {
      const failure = parse(answer.text) as { data?: object };
      return { ...answer, text: stringify({ ...failure, data: { ...failure.data, log } }) };
    }
    const isJson = (answer.flags & ReplyFlag.json) !== 0;
    const meta = answer.meta === '' ? {} : (parse(answer.meta) as object);
    const withLog = isJson ? { headers: JSON_HEADERS, log } : { ...meta, log };
    return { ...answer, flags: answer.flags & ~ReplyFlag.json, meta: stringify(withLog) };
  }

  #all(): readonly CallLogLine[] {
    if (this.#dropped === 0) return this.#lines;
    const time = this.#lines.at(-1)?.time ?? 0;
    const message = `lines of more than ${MAX_CHARS} characters do not go back with an answer`;
    return [...this.#lines, { time, level: 'warn', message, dropped: this.#dropped }];
  }
}
