import { Parser } from 'acorn';
import { BUNDLE_FILE, type StartFailure } from './bridge.ts';

/** What acorn calls for every `import(…)`, `import.meta`, `import.defer(…)`; its types leave the parser's methods out. */
interface ParserInternals {
  new (
    options: object,
    input: string,
  ): { readonly start: number; parse(): unknown; parseExprImport(isNew: boolean): unknown };
}

/** Thrown from inside the parser to stop it. */
class Found {
  readonly at: number;
  constructor(at: number) {
    this.at = at;
  }
}

class ImportFinder extends (Parser as unknown as ParserInternals) {
  override parseExprImport(): never {
    throw new Found(this.start);
  }
}

/** Where a bundle holds a dynamic import, or why it cannot be parsed; `undefined` when it may run. Loaded only for bundles in whose text the word stands. */
export function findDynamicImport(source: string): StartFailure | undefined {
  const options = { ecmaVersion: 'latest', sourceType: 'script', allowReturnOutsideFunction: true };
  try {
    new ImportFinder(options, source).parse();
    return undefined;
  } catch (thrown) {
    if (thrown instanceof Found) {
      const message = 'import() is not available in an isolate; import statically, or call require at pack time';
      return { phase: 'parse', name: 'SyntaxError', message, stack: positionOf(source, thrown.at) };
    }
    const { message, pos } = thrown as { message: string; pos?: number };
    return { phase: 'parse', name: 'SyntaxError', message, stack: pos === undefined ? '' : positionOf(source, pos) };
  }
}

function positionOf(source: string, at: number): string {
  const lines = source.slice(0, at).split('\n');
  return `    at ${BUNDLE_FILE}:${lines.length}:${(lines.at(-1)?.length ?? 0) + 1}`;
}
