import { RE2JS } from 're2js';

/**
 * Most work one test of a pattern may cost: instructions of the compiled pattern times characters. About a second
 * where RE2 has to fall back on its NFA; a value that would cost more does not match.
 */
const MAX_TEST_COST = 50_000_000;

/** Most instructions a pattern may compile to; `[a-z]{1000}` has 1 000. */
const MAX_PROGRAM = 2_000;

/** What ajv needs of a regular expression. */
export interface Pattern {
  test(text: string): boolean;
  /** ajv takes this for the pattern's identity: two patterns with one text would share one validator. */
  toString(): string;
}

/**
 * Compiles a schema's `pattern` with RE2, whose time is linear in the text: V8's backtracking lets one request hang a
 * process, with or without its linear-time flag (3.4 s at 27 characters). Throws for what RE2 cannot express:
 * look-around, back-references, repeats above 1 000.
 */
export function compilePattern(source: string): Pattern {
  const compiled = RE2JS.compile(RE2JS.translateRegExp(source));
  const size = compiled.programSize();
  if (size > MAX_PROGRAM) throw new Error(`it compiles to ${size} instructions, at most ${MAX_PROGRAM} are run`);
  return {
    test: (text) => text.length * size <= MAX_TEST_COST && compiled.test(text),
    toString: () => source,
  };
}

/** Why a pattern cannot be used, or `undefined` when it can. */
export function patternProblem(source: string): string | undefined {
  try {
    compilePattern(source);
    return undefined;
  } catch (error) {
    return `pattern ${source} cannot be run in linear time: ${error instanceof Error ? error.message : String(error)}`;
  }
}
