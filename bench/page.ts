/** What a section writes: lines of markdown, and the figures that must be met. */
export interface Page {
  readonly say: (line?: string) => void;
  /** A table; text goes left, numbers right, rounded to what they are worth. */
  readonly table: (head: readonly string[], rows: readonly (readonly (string | number)[])[]) => void;
  /** For the table at the end of the page, which has those of all sections. */
  readonly must: (figure: Figure) => void;
}

export interface Figure {
  readonly load: string;
  readonly must: string;
  readonly found: string;
  readonly isMet: boolean;
}

/** One section of the results: measures, then says what came out. */
export type Section = (page: Page, isQuick: boolean) => Promise<void>;

/** Lines and figures are added to the arrays. */
export function createPage(lines: string[], figures: Figure[]): Page {
  function say(line = ''): void {
    lines.push(line);
  }
  return {
    say,
    must: (figure) => void figures.push(figure),
    table(head, rows) {
      say();
      say(`| ${head.join(' | ')} |`);
      say(`|${head.map((_, column) => (typeof rows[0]?.[column] === 'number' ? '--:' : '---')).join('|')}|`);
      for (const row of rows)
        say(`| ${row.map((cell) => (typeof cell === 'number' ? digits(cell) : cell)).join(' | ')} |`);
      say();
    },
  };
}

export function verdict(isMet: boolean): string {
  return isMet ? 'met' : '**not met**';
}

/** Three digits that count; an absent figure is a dash. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
