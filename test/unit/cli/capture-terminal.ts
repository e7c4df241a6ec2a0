import type { Terminal } from '../../../cli/terminal.ts';

/** A terminal that keeps what is written. */
export interface CapturedTerminal extends Terminal {
  readonly outLines: readonly string[];
  readonly saidLines: readonly string[];
}

/** No colours, nobody to answer questions. */
export function captureTerminal(isInteractive = false): CapturedTerminal {
  const outLines: string[] = [];
  const saidLines: string[] = [];
  return {
    outLines,
    saidLines,
    isInteractive,
    out: (line) => void outLines.push(line),
    say: (line) => void saidLines.push(line),
    paint: (_style, text) => text,
  };
}
