/** One segment of a path template. Literals are percent-decoded. */
export type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'capture'; readonly name: string }
  /** `{a}-{b}.json`: `literals` has one entry more than `names`; the first and the last may be empty. */
  | { readonly kind: 'mixed'; readonly literals: readonly string[]; readonly names: readonly string[] };

/** A path template taken apart. `problem` says in words what is wrong with it, if anything is. */
export interface Template {
  readonly segments: readonly Segment[];
  /** Captures from left to right. */
  readonly names: readonly string[];
  readonly problem?: string;
}

/** Takes a path template apart: `/orders/{id}.json`. Never throws; what is wrong is in `problem`. */
export function parseTemplate(path: string): Template {
  if (!path.startsWith('/')) return { segments: [], names: [], problem: `path ${path} does not begin with /` };
  const segments: Segment[] = [];
  const names: string[] = [];
  for (const text of path.slice(1).split('/')) {
    const segment = parseSegment(text);
    if (typeof segment === 'string') return { segments, names, problem: `path ${path} ${segment}` };
    segments.push(segment);
    if (segment.kind === 'capture') names.push(segment.name);
    if (segment.kind === 'mixed') names.push(...segment.names);
  }
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated !== undefined) return { segments, names, problem: `path ${path} uses {${repeated}} twice` };
  return { segments, names };
}

/**
 * What two templates share when they match the same paths: the template with its names taken out.
 * @example templateKey('/a/{x}/{y}.json') // '/a/{}/{}.json'
 */
export function templateKey(path: string): string {
  return path.replace(/\{[^{}]*\}/g, '{}');
}

/** A segment, or what is wrong with it. */
function parseSegment(text: string): Segment | string {
  const literals: string[] = [];
  const names: string[] = [];
  let at = 0;
  for (;;) {
    const open = text.indexOf('{', at);
    const literal = text.slice(at, open < 0 ? text.length : open);
    if (literal.includes('}')) return 'has a } without its {';
    const decoded = decodePart(literal);
    if (decoded === undefined) return `has the malformed percent-encoding ${literal}`;
    literals.push(decoded);
    if (open < 0) break;
    const close = text.indexOf('}', open);
    const name = text.slice(open + 1, close);
    if (close < 0 || name.includes('{')) return 'has a { without its }';
    if (name === '' || name === '__proto__') return `has the parameter name {${name}}, which cannot be used`;
    if (decoded === '' && names.length > 0) return `has nothing between {${names.at(-1)}} and {${name}}`;
    names.push(name);
    at = close + 1;
  }
  const [first = ''] = literals;
  const [name] = names;
  if (name === undefined) {
    if (first === '.' || first === '..') return 'has a dot segment, which clients remove before they send';
    return { kind: 'literal', text: first };
  }
  if (names.length === 1 && first === '' && literals[1] === '') return { kind: 'capture', name };
  return { kind: 'mixed', literals, names };
}

/**
 * Matches one decoded segment against literals and captures, each capture as short as it can be and never empty.
 * Leftmost matching of the inner literals finds a match whenever there is one. Pushes the captured text.
 */
export function matchMixed(literals: readonly string[], text: string, captures: string[]): boolean {
  const [first = ''] = literals;
  const last = literals.at(-1) ?? '';
  if (!text.startsWith(first) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let start = first.length;
  const before = captures.length;
  for (let index = 1; index < literals.length - 1; index++) {
    const literal = literals[index] ?? '';
    const found = text.indexOf(literal, start + 1);
    if (found < 0 || found + literal.length >= end) {
      captures.length = before;
      return false;
    }
    captures.push(text.slice(start, found));
    start = found + literal.length;
  }
  if (start >= end) {
    captures.length = before;
    return false;
  }
  captures.push(text.slice(start, end));
  return true;
}

/** Percent-decodes as UTF-8, or `undefined` where the encoding is malformed. RFC 3986 §2.1. */
export function decodePart(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    // decodeURIComponent has no other way to say that the input is malformed.
    return undefined;
  }
}
