/** What a run writes: lines of markdown, printed as they come. */
export interface Page {
  readonly say: (line?: string) => void;
  /** A table; text goes left, numbers right, rounded to what they are worth. */
  readonly table: (head: readonly string[], rows: readonly (readonly (string | number)[])[]) => void;
}

/** One section of the results: measures, then says what came out. */
export type Section = (page: Page, isQuick: boolean) => Promise<void>;

export function createPage(lines: string[]): Page {
  function say(line = ''): void {
    lines.push(line);
    process.stdout.write(`${line}\n`);
  }
  return {
    say,
    table(head, rows) {
      say();
      say(`| ${head.join(' | ')} |`);
      say(`|${head.map((_, column) => (typeof rows[0]?.[column] === 'number' ? '--:' : '---')).join('|')}|`);
      for (const row of rows)
        say(`| ${row.map((cell) => (typeof cell === 'number' ? figure(cell) : cell)).join(' | ')} |`);
      say();
    },
  };
}

/** In a line that misses its figure; the run then ends with 1. */
export const NOT_MET = '**not met**';

export function verdict(isMet: boolean): string {
  return isMet ? 'met' : NOT_MET;
}

/** Three digits that count; an absent figure is a dash. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
