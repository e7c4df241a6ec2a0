import { decodePart, matchMixed, parseTemplate, type Segment } from './template.ts';

/** One operation a router answers. */
export interface RouteEntry<T> {
  /** Without port; `undefined` answers every host. */
  readonly host?: string | undefined;
  /** `''`, or a path that begins with `/` and does not end with one. */
  readonly basePath: string;
  readonly method: string;
  /** Template relative to `basePath`. */
  readonly path: string;
  readonly value: T;
}

/** What `match` finds. `allow` is sorted and holds `OPTIONS`, and `HEAD` where there is `GET`. */
export type Match<T> =
  | { readonly kind: 'found'; readonly value: T; readonly params: Readonly<Record<string, string>> }
  /** The path is there, the method is not: 405. */
  | { readonly kind: 'method'; readonly allow: readonly string[] }
  /** `OPTIONS` that no operation declares: 204 with `Allow`. */
  | { readonly kind: 'options'; readonly allow: readonly string[] }
  /** The path cannot be a path (bad percent-encoding, a dot segment): 400. */
  | { readonly kind: 'malformed' }
  | { readonly kind: 'none' };

export interface Router<T> {
  /** `host` as in the `Host` header; `rawPath` as the client sent it, without the query. */
  readonly match: (host: string | undefined, method: string, rawPath: string) => Match<T>;
}

/** A router whose entries come and go. A change is whole before the next match. */
export interface LiveRouter<T> extends Router<T> {
  add(entry: RouteEntry<T>): void;
  /** Takes an entry away that was added, with the same value; an equal one that stood behind it answers from now on. */
  remove(entry: RouteEntry<T>): void;
}

interface Target<T> {
  readonly value: T;
  readonly names: readonly string[];
  /** The ready answer of a template without captures. */
  readonly found: Match<T>;
  /** Equal entries that came later. */
  readonly behind: readonly Target<T>[];
}

interface Leaf<T> {
  readonly targets: Map<string, Target<T>>;
  refused: Match<T>;
  options: Match<T>;
}

interface Node<T> {
  readonly literals: Map<string, Node<T>>;
  mixed: { readonly literals: readonly string[]; readonly node: Node<T> }[];
  capture: Node<T> | undefined;
  leaf: Leaf<T> | undefined;
}

interface Site<T> {
  readonly statics: Map<string, Leaf<T>>;
  readonly root: Node<T>;
}

const NONE = { kind: 'none' } as const;
const MALFORMED = { kind: 'malformed' } as const;
const NO_PARAMS: Readonly<Record<string, string>> = Object.freeze({});

/**
 * A router over the operations of all live bundles.
 *
 * Which entry answers: the host named exactly before any host; then segment by segment from the left a literal before
 * `{a}.json` before `{a}`; the path decides before the method, so `DELETE /pets/mine` is 405 where only
 * `GET /pets/mine` and `DELETE /pets/{id}` exist. The first of two equal entries wins.
 *
 * Paths are compared as RFC 3986 §6.2.2 says: percent-encoded octets are decoded, but only after the path was split,
 * so `%2F` stays inside its segment. `/x/` and `/x` are different resources. An empty segment matches no capture.
 * `.` and `..` segments are refused rather than resolved: a client removes them itself, and whoever sends them
 * encoded wants to end elsewhere.
 */
export function createRouter<T>(entries: Iterable<RouteEntry<T>> = []): LiveRouter<T> {
  const anyHost = createSite<T>();
  const hosts = new Map<string, Site<T>>();
  function add(entry: RouteEntry<T>): void {
    const host = entry.host === undefined ? undefined : hostName(entry.host);
    let site = host === undefined ? anyHost : hosts.get(host);
    if (site === undefined) hosts.set(host ?? '', (site = createSite<T>()));
    insert(site, entry);
  }
  for (const entry of entries) add(entry);
  return {
    add,
    remove(entry) {
      const host = entry.host === undefined ? undefined : hostName(entry.host);
      const site = host === undefined ? anyHost : hosts.get(host);
      if (site === undefined) return;
      const { segments } = parseTemplate(entry.basePath + entry.path);
      if (prune(site, site.root, segments, 0, entry) && host !== undefined) hosts.delete(host);
    },
    match(host, method, rawPath) {
      if (hosts.size > 0 && host !== undefined) {
        const site = hosts.get(hostName(host));
        if (site !== undefined) {
          const match = matchSite(site, method, rawPath);
          if (match.kind !== 'none') return match;
        }
      }
      return matchSite(anyHost, method, rawPath);
    },
  };
}

/** The host of a `Host` header or a document: lower case, without port and the root's dot. */
export function hostName(host: string): string {
  const port = host.indexOf(':', host.startsWith('[') ? host.indexOf(']') : 0);
  const name = (port < 0 ? host : host.slice(0, port)).toLowerCase();
  return name.endsWith('.') ? name.slice(0, -1) : name;
}

function createSite<T>(): Site<T> {
  return { statics: new Map(), root: createNode() };
}

function createNode<T>(): Node<T> {
  return { literals: new Map(), mixed: [], capture: undefined, leaf: undefined };
}

function insert<T>(site: Site<T>, entry: RouteEntry<T>): void {
  const path = entry.basePath + entry.path;
  const { segments, names } = parseTemplate(path);
  let node = site.root;
  for (const segment of segments) node = step(node, segment);
  node.leaf ??= { targets: new Map(), refused: NONE, options: NONE };
  const { leaf } = node;
  const { value } = entry;
  const target = { value, names, found: { kind: 'found', value, params: NO_PARAMS }, behind: [] } as const;
  const first = leaf.targets.get(entry.method);
  leaf.targets.set(entry.method, first === undefined ? target : { ...first, behind: [...first.behind, target] });
  if (first === undefined) allowTargets(leaf);
  if (names.length === 0 && !path.includes('%')) site.statics.set(path, leaf);
}

function allowTargets<T>(leaf: Leaf<T>): void {
  const allow = allowOf(leaf.targets.keys());
  leaf.refused = { kind: 'method', allow };
  leaf.options = { kind: 'options', allow };
}

/** Takes the entry from below a node; whether nothing is left there. */
function prune<T>(
  site: Site<T>,
  node: Node<T>,
  segments: readonly Segment[],
  index: number,
  entry: RouteEntry<T>,
): boolean {
  const segment = segments[index];
  if (segment === undefined) {
    if (node.leaf !== undefined) dropTarget(node.leaf, entry);
    if (node.leaf?.targets.size === 0) {
      node.leaf = undefined;
      // The path that it was found under, if it was one without captures: an entry may spell it otherwise.
      site.statics.delete(segments.map((each) => (each.kind === 'literal' ? `/${each.text}` : '/{}')).join(''));
    }
  } else {
    const next = childOf(node, segment);
    if (next !== undefined && prune(site, next, segments, index + 1, entry)) detach(node, segment, next);
  }
  return node.leaf === undefined && node.literals.size === 0 && node.mixed.length === 0 && node.capture === undefined;
}

function dropTarget<T>(leaf: Leaf<T>, { method, value }: RouteEntry<T>): void {
  const first = leaf.targets.get(method);
  if (first === undefined) return;
  const behind = first.behind.filter((target) => target.value !== value);
  const [second] = behind;
  if (first.value !== value) leaf.targets.set(method, { ...first, behind });
  else if (second !== undefined) leaf.targets.set(method, { ...second, behind: behind.slice(1) });
  else if (leaf.targets.delete(method)) allowTargets(leaf);
}

function step<T>(node: Node<T>, segment: Segment): Node<T> {
  const known = childOf(node, segment);
  if (known !== undefined) return known;
  const next = createNode<T>();
  if (segment.kind === 'capture') node.capture = next;
  else if (segment.kind === 'literal') node.literals.set(segment.text, next);
  else {
    node.mixed.push({ literals: segment.literals, node: next });
    // More literal text is more specific; the comparison is total, so that the order of entries does not matter.
    node.mixed.sort((a, b) => literalLength(b) - literalLength(a) || compare(a.literals, b.literals));
  }
  return next;
}

function childOf<T>(node: Node<T>, segment: Segment): Node<T> | undefined {
  if (segment.kind === 'capture') return node.capture;
  if (segment.kind === 'literal') return node.literals.get(segment.text);
  const key = segment.literals.join('\0');
  return node.mixed.find((each) => each.literals.join('\0') === key)?.node;
}

function detach<T>(node: Node<T>, segment: Segment, child: Node<T>): void {
  if (segment.kind === 'capture') node.capture = undefined;
  else if (segment.kind === 'literal') node.literals.delete(segment.text);
  else node.mixed = node.mixed.filter((each) => each.node !== child);
}

function literalLength(mixed: { readonly literals: readonly string[] }): number {
  return mixed.literals.reduce((sum, literal) => sum + literal.length, 0);
}

function compare(a: readonly string[], b: readonly string[]): number {
  return a.join('\0') < b.join('\0') ? -1 : 1;
}

function allowOf(methods: Iterable<string>): readonly string[] {
  const allow = new Set(methods);
  if (allow.has('GET')) allow.add('HEAD');
  allow.add('OPTIONS');
  return [...allow].sort();
}

function matchSite<T>(site: Site<T>, method: string, rawPath: string): Match<T> {
  const fixed = site.statics.get(rawPath);
  if (fixed !== undefined) return answer(fixed, method, undefined);
  if (rawPath.charCodeAt(0) !== 0x2f) return NONE;
  const segments = rawPath.slice(1).split('/');
  for (let index = 0; index < segments.length; index++) {
    const decoded = decodePart(segments[index] ?? '');
    if (decoded === undefined || decoded === '.' || decoded === '..') return MALFORMED;
    segments[index] = decoded;
  }
  const captures: string[] = [];
  const leaf = descend(site.root, segments, 0, captures);
  return leaf === undefined ? NONE : answer(leaf, method, captures);
}

/** Visits every node at most once, so a hostile path costs no more than the tree is large. */
function descend<T>(
  node: Node<T>,
  segments: readonly string[],
  index: number,
  captures: string[],
): Leaf<T> | undefined {
  const segment = segments[index];
  if (segment === undefined) return node.leaf;
  const literal = node.literals.get(segment);
  if (literal !== undefined) {
    const leaf = descend(literal, segments, index + 1, captures);
    if (leaf !== undefined) return leaf;
  }
  if (segment === '') return undefined;
  const before = captures.length;
  for (const mixed of node.mixed) {
    if (!matchMixed(mixed.literals, segment, captures)) continue;
    const leaf = descend(mixed.node, segments, index + 1, captures);
    if (leaf !== undefined) return leaf;
    captures.length = before;
  }
  if (node.capture === undefined) return undefined;
  captures.push(segment);
  const leaf = descend(node.capture, segments, index + 1, captures);
  if (leaf === undefined) captures.length = before;
  return leaf;
}

function answer<T>(leaf: Leaf<T>, method: string, captures: readonly string[] | undefined): Match<T> {
  let target = leaf.targets.get(method);
  if (target === undefined && method === 'HEAD') target = leaf.targets.get('GET');
  if (target === undefined) return method === 'OPTIONS' ? leaf.options : leaf.refused;
  if (captures === undefined || captures.length === 0) return target.found;
  const params: Record<string, string> = {};
  for (let index = 0; index < target.names.length; index++) {
    params[target.names[index] ?? ''] = captures[index] ?? '';
  }
  return { kind: 'found', value: target.value, params };
}
