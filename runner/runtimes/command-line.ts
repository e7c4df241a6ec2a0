/**
 * The words of a command line: separated by blanks, `'…'` and `"…"` keep blanks, a backslash keeps the character after
 * it (not inside `'…'`). No variables, no wildcards, no shell: a bundle that wants one begins with `sh -c`.
 * @example splitCommand(`perl -e 'print 1'`) // ['perl', '-e', 'print 1']
 */
export function splitCommand(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const char = line.charAt(at);
    if (char === '\\' && quote !== "'" && at + 1 < line.length) word = (word ?? '') + line.charAt(++at);
    else if (quote !== '' && char === quote) quote = '';
    else if (quote === '' && (char === "'" || char === '"')) {
      quote = char;
      word ??= '';
    } else if (quote === '' && /\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + char;
  }
  if (word !== undefined) words.push(word);
  return words;
}
