import { SourceMap } from 'node:module';
import { type Node, parse } from 'acorn';
import type { Problem } from '../errors.ts';

/**
 * Every `import(…)` that is left in packed code, at its place in the author's files. esbuild inlines the ones whose
 * module it knows; what is left would be refused by the isolate.
 */
export function findDynamicImports(code: string, map: string): Problem[] {
  // The keyword cannot be written with escapes, so its absence is proof; parsing megabytes takes a second.
  if (!/\bimport\b/.test(code)) return [];
  const sources = new SourceMap(JSON.parse(map) as ConstructorParameters<typeof SourceMap>[0]);
  const problems: Problem[] = [];
  visit(parse(code, { ecmaVersion: 'latest', sourceType: 'script', locations: true }), (node) => {
    if (node.type !== 'ImportExpression' || node.loc == null) return;
    const origin = sources.findEntry(node.loc.start.line - 1, node.loc.start.column);
    problems.push({
      ...('originalSource' in origin
        ? { file: origin.originalSource, line: origin.originalLine + 1, column: origin.originalColumn + 1 }
        : {}),
      message: '`import(…)` of a name that is not written out',
      hint: 'write the name as a literal string, or import it at the top of the file',
    });
  });
  return problems;
}

/** Calls `look` with every node of a tree. A stack of its own: generated code nests deeper than the call stack. */
function visit(root: Node, look: (node: Node) => void): void {
  const stack: unknown[] = [root];
  while (stack.length > 0) {
    const value = stack.pop();
    if (Array.isArray(value)) stack.push(...(value as unknown[]));
    else if (isNode(value)) {
      look(value);
      for (const child of Object.values(value)) if (typeof child === 'object' && child !== null) stack.push(child);
    }
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}
