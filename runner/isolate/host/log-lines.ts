import { FrameKind } from '../channel.ts';
import type { BundleHostOptions } from './bundle-host.ts';

/** Above this the runner reads too slowly: lines wait. */
const BACKLOG_BYTES = 1024 * 1024;
/** A frame of lines is closed when it has so many characters: its reader takes in a bounded part of a flood at a time. */
const FRAME_CHARS = 64 * 1024;
/** Lines that wait; more are dropped and counted. */
const MAX_LINES = 1000;
const RETRY_MS = 20;

/** Log lines on their way to the runner, in frames at the end of a turn. */
export class LogLines {
  readonly #options: Pick<BundleHostOptions, 'send' | 'backlogBytes'>;
  #lines: string[] = [];
  #dropped = 0;
  #isWaiting = false;

  constructor(options: Pick<BundleHostOptions, 'send' | 'backlogBytes'>) {
    this.#options = options;
  }

  /** Takes a line as JSON. */
  push(json: string): void {
    if (this.#lines.length < MAX_LINES) this.#lines.push(json);
    else this.#dropped++;
  }

  /** Writes a line of the host's own. */
  report(message: string, dropped?: number): void {
    this.push(JSON.stringify({ time: Date.now(), level: 'error', message, dropped }));
  }

  /** Sends what there is, or tries again a little later. */
  flush(): void {
    if (this.#lines.length === 0) return;
    if (this.#options.backlogBytes() > BACKLOG_BYTES) {
      if (!this.#isWaiting) setTimeout(() => this.#tryAgain(), RETRY_MS);
      this.#isWaiting = true;
      return;
    }
    this.#sendAll(this.#lines);
    this.#lines = [];
    if (this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.report('log lines were dropped: they came faster than the runner reads', dropped);
  }

  #sendAll(lines: readonly string[]): void {
    let frame: string[] = [];
    let chars = 0;
    for (const line of lines) {
      if (chars > 0 && chars + line.length > FRAME_CHARS) {
        this.#send(frame);
        frame = [];
        chars = 0;
      }
      frame.push(line);
      chars += line.length;
    }
    this.#send(frame);
  }

  #send(lines: readonly string[]): void {
    this.#options.send(FrameKind.log, Buffer.from(`[${lines.join(',')}]`));
  }

  #tryAgain(): void {
    this.#isWaiting = false;
    this.flush();
  }
}
