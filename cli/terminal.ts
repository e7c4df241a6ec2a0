import { styleText } from 'node:util';

/** Where a verb writes: its data, and everything that is said about it. Tests give their own. */
export interface Terminal {
  /** A line of data, on stdout. */
  out(line: string): void;
  /** A line for people, on stderr. */
  say(line: string): void;
  /** Whether a person reads along, so that progress may be drawn and questions asked. */
  readonly isInteractive: boolean;
  /** Text in a style where stderr shows colours; as it is otherwise (`NO_COLOR`, a pipe). */
  paint(style: 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan', text: string): string;
}

/** The terminal of this process. */
export function createTerminal(): Terminal {
  // `funcatron ls | head` closes our stdout early: that is the reader's right, and no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return {
    out: (line) => void process.stdout.write(`${line}\n`),
    say: (line) => void process.stderr.write(`${line}\n`),
    isInteractive: process.stderr.isTTY && process.stdin.isTTY,
    // styleText looks at NO_COLOR, FORCE_COLOR and the stream by itself.
    paint: (style, text) => styleText(style, text, { stream: process.stderr }),
  };
}

/** Rows under a heading as aligned columns; nothing when there are no rows. */
export function formatTable(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const all = [heading.map((text) => text.toUpperCase()), ...rows];
  const widths = heading.map((_text, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/**
 * Runs `work` and says what takes so long when it takes longer than a second (every five seconds from then on).
 * Nothing is said when nobody reads along.
 */
export async function withProgress<T>(terminal: Terminal, what: string, work: Promise<T>): Promise<T> {
  if (!terminal.isInteractive) return work;
  const startedAt = performance.now();
  const say = (): void => {
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    terminal.say(terminal.paint('dim', `${what} … ${seconds} s`));
  };
  let repeat: NodeJS.Timeout | undefined;
  const first = setTimeout(() => {
    say();
    repeat = setInterval(say, 5_000);
  }, 1_000);
  try {
    return await work;
  } finally {
    clearTimeout(first);
    clearInterval(repeat);
  }
}
