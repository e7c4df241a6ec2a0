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
  readonly method: string;
  readonly value: T;
  readonly names: readonly string[];
  /** The ready answer of a template without captures. */
  readonly found: Match<T> | undefined;
}

/** What answers one path. Of two for the same method the first does. */
type Leaf<T> = Target<T>[];

/** There are two or three for each route, so what most of them do not have is not made. */
interface Node<T> {
  literals: Map<string, Node<T>> | undefined;
  mixed: readonly { readonly literals: readonly string[]; readonly node: Node<T> }[];
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
const NOTHING: readonly never[] = [];

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
  return { literals: undefined, mixed: NOTHING, capture: undefined, leaf: undefined };
}

function insert<T>(site: Site<T>, entry: RouteEntry<T>): void {
  const path = entry.basePath + entry.path;
  const { segments, names } = parseTemplate(path);
  let node = site.root;
  for (const segment of segments) node = step(node, segment);
  const { method, value } = entry;
  const isFixed = names.length === 0;
  node.leaf ??= [];
  node.leaf.push({
    method,
    value,
    names: isFixed ? NOTHING : names,
    found: isFixed ? { kind: 'found', value, params: NO_PARAMS } : undefined,
  });
  if (isFixed && !path.includes('%')) site.statics.set(path, node.leaf);
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
    const { leaf = [] } = node;
    const at = leaf.findIndex(({ method, value }) => method === entry.method && value === entry.value);
    if (at >= 0) leaf.splice(at, 1);
    if (leaf.length === 0) {
      node.leaf = undefined;
      // The path that it was found under, if it was one without captures: an entry may spell it otherwise.
      site.statics.delete(segments.map((each) => (each.kind === 'literal' ? `/${each.text}` : '/{}')).join(''));
    }
  } else {
    const next = childOf(node, segment);
    if (next !== undefined && prune(site, next, segments, index + 1, entry)) detach(node, segment, next);
  }
  return (
    node.leaf === undefined && node.literals === undefined && node.mixed.length === 0 && node.capture === undefined
  );
}

function step<T>(node: Node<T>, segment: Segment): Node<T> {
  const known = childOf(node, segment);
  if (known !== undefined) return known;
  const next = createNode<T>();
  if (segment.kind === 'capture') node.capture = next;
  else if (segment.kind === 'literal') (node.literals ??= new Map()).set(segment.text, next);
  else {
    const all = [...node.mixed, { literals: segment.literals, node: next }];
    // More literal text is more specific; the comparison is total, so that the order of entries does not matter.
    node.mixed = all.sort((a, b) => literalLength(b) - literalLength(a) || compare(a.literals, b.literals));
  }
  return next;
}

function childOf<T>(node: Node<T>, segment: Segment): Node<T> | undefined {
  if (segment.kind === 'capture') return node.capture;
  if (segment.kind === 'literal') return node.literals?.get(segment.text);
  const key = segment.literals.join('\0');
  return node.mixed.find((each) => each.literals.join('\0') === key)?.node;
}

function detach<T>(node: Node<T>, segment: Segment, child: Node<T>): void {
  if (segment.kind === 'capture') node.capture = undefined;
  else if (segment.kind === 'literal') {
    node.literals?.delete(segment.text);
    if (node.literals?.size === 0) node.literals = undefined;
  } else node.mixed = node.mixed.filter((each) => each.node !== child);
}

function literalLength(mixed: { readonly literals: readonly string[] }): number {
  return mixed.literals.reduce((sum, literal) => sum + literal.length, 0);
}

function compare(a: readonly string[], b: readonly string[]): number {
  return a.join('\0') < b.join('\0') ? -1 : 1;
}

function allowOf(leaf: Leaf<unknown>): readonly string[] {
  const allow = new Set(leaf.map(({ method }) => method));
  if (allow.has('GET')) allow.add('HEAD');
  allow.add('OPTIONS');
  return [...allow].sort();
}

function matchSite<T>(site: Site<T>, method: string, rawPath: string): Match<T> {
  const fixed = site.statics.get(rawPath);
  if (fixed !== undefined) return answer(fixed, method, NOTHING);
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
  const literal = node.literals?.get(segment);
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

function answer<T>(leaf: Leaf<T>, method: string, captures: readonly string[]): Match<T> {
  const target = targetOf(leaf, method) ?? (method === 'HEAD' ? targetOf(leaf, 'GET') : undefined);
  if (target === undefined) return { kind: method === 'OPTIONS' ? 'options' : 'method', allow: allowOf(leaf) };
  if (target.found !== undefined) return target.found;
  const params: Record<string, string> = {};
  for (let index = 0; index < target.names.length; index++) {
    params[target.names[index] ?? ''] = captures[index] ?? '';
  }
  return { kind: 'found', value: target.value, params };
}

function targetOf<T>(leaf: Leaf<T>, method: string): Target<T> | undefined {
  for (const target of leaf) if (target.method === method) return target;
  return undefined;
}
