import { BUNDLE_FILE } from '../bridge.ts';

const MAX_LINES = 20;

/** The lines of a stack that lie in the bundle; '' when there are none. */
export function ownLines(stack: unknown): string {
  if (typeof stack !== 'string') return '';
  const lines = stack.split('\n').filter((line) => line.includes(`${BUNDLE_FILE}:`) && /^\s+at /.test(line));
  return lines.slice(0, MAX_LINES).join('\n');
}
