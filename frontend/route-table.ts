import type { ErrorCode, ErrorData } from '../core/errors.ts';
import { createRouter, type Match, type RouteEntry, type Router } from '../core/openapi/router.ts';
import { parseTemplate, templateKey } from '../core/openapi/template.ts';
import type { BundleState, Epoch } from '../core/wire/control.ts';
import { revisionKey, type Operation, type Revision } from './revision.ts';

/** Which operations answer which requests, as of one epoch. */
export interface RouteTable {
  readonly epoch: Epoch;
  /** The revisions calls may go to now; the same list as before where nothing has changed. */
  readonly revisions: readonly Revision[];
  /** The one of the newest table: it changes when the next table is made. */
  readonly router: Router<Route>;
}

/**
 * Makes the table of these bundles from the one before: a bundle that answers what it did costs nothing but a look at
 * it. A weighted revision that is not in `held` is left out.
 */
export type RouteTables = (
  epoch: Epoch,
  bundles: readonly BundleState[],
  held: ReadonlyMap<string, Revision>,
) => RouteTable;

/** The operations of one bundle that answer a host, path and method: one for each revision with a weight. */
class Route {
  readonly #first: RouteOption;
  readonly #others: RouteOption[] = [];
  #total: number;

  constructor(first: RouteOption) {
    this.#first = first;
    this.#total = first.weight;
  }

  add(option: RouteOption): void {
    this.#others.push(option);
    this.#total += option.weight;
  }

  /** One of them, by weight. */
  choose(): RouteOption {
    if (this.#others.length === 0) return this.#first;
    let left = Math.random() * this.#total;
    return this.#others.find((option) => (left -= option.weight) < 0) ?? this.#first;
  }
}

export interface RouteOption {
  readonly operation: Operation;
  readonly weight: number;
  /** Its names of the path parameters, where another revision's template calls them otherwise. */
  readonly names?: Readonly<Record<string, string>>;
}

/** Path parameters by the names this option's own template has for them. */
export function paramsOf(
  option: RouteOption,
  params: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const { names } = option;
  if (names === undefined) return params;
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [names[name] ?? name, value]));
}

/** One revision of a bundle and its part of the calls. */
interface Share {
  readonly revision: Revision;
  readonly weight: number;
}

/** What one bundle answers. */
interface BundleRoutes {
  readonly shares: readonly Share[];
  readonly entries: readonly RouteEntry<Route>[];
}

/** Begins with an empty table. */
export function createRouteTables(): RouteTables {
  const router = createRouter<Route>();
  let active: ReadonlyMap<string, BundleRoutes> = new Map();
  let revisions: readonly Revision[] = [];
  return (epoch, bundles, held) => {
    const next = new Map<string, BundleRoutes>();
    const fresh: BundleRoutes[] = [];
    for (const bundle of bundles) {
      const shares = sharesOf(bundle, held);
      const known = active.get(bundle.name);
      if (known !== undefined && isSame(known.shares, shares)) {
        next.set(bundle.name, known);
        continue;
      }
      const routes = { shares, entries: entriesOf(shares) };
      next.set(bundle.name, routes);
      fresh.push(routes);
    }
    const gone = [...active].filter(([name, routes]) => next.get(name) !== routes);
    // What goes, first: a route may move from one bundle to another.
    for (const [, { entries }] of gone) for (const entry of entries) router.remove(entry);
    for (const { entries } of fresh) for (const entry of entries) router.add(entry);
    active = next;
    if (fresh.length > 0 || gone.length > 0)
      revisions = [...next.values()].flatMap(({ shares }) => shares.map(({ revision }) => revision));
    return { epoch, revisions, router };
  };
}

function sharesOf(bundle: BundleState, held: ReadonlyMap<string, Revision>): readonly Share[] {
  const shares: Share[] = [];
  for (const [name, weight] of Object.entries(bundle.weights)) {
    const revision = weight > 0 ? held.get(revisionKey(bundle.name, name)) : undefined;
    if (revision !== undefined) shares.push({ revision, weight });
  }
  return shares;
}

function isSame(some: readonly Share[], others: readonly Share[]): boolean {
  return (
    some.length === others.length &&
    some.every(({ revision, weight }, index) => {
      const other = others[index];
      return revision === other?.revision && weight === other.weight;
    })
  );
}

/** Of one bundle: revisions share the routes that all of them have. A bundle never shares one with another bundle. */
function entriesOf(shares: readonly Share[]): readonly RouteEntry<Route>[] {
  const entries = new Map<string, RouteEntry<Route>>();
  for (const { revision, weight } of shares) {
    const { host, basePath } = revision;
    for (const operation of revision.operations) {
      const { method, path, http } = operation.spec;
      if (!http) continue;
      const key = `${host ?? ''} ${method} ${templateKey(basePath + path)}`;
      const entry = entries.get(key);
      if (entry === undefined) {
        entries.set(key, { host, basePath, method, path, value: new Route({ operation, weight }) });
      } else {
        const names = renamed(entry.basePath + entry.path, basePath + path);
        entry.value.add({ operation, weight, ...(names === undefined ? {} : { names }) });
      }
    }
  }
  return [...entries.values()];
}

function renamed(from: string, to: string): Record<string, string> | undefined {
  if (from === to) return undefined;
  const names = parseTemplate(to).names;
  return Object.fromEntries(parseTemplate(from).names.map((name, index) => [name, names[index] ?? name]));
}

/** What a client is told whose request no operation answers. */
export function refusalOf(
  match: Exclude<Match<Route>, { kind: 'found' | 'options' }>,
  method: string,
  path: string,
): { readonly code: ErrorCode; readonly message: string; readonly data: ErrorData } {
  switch (match.kind) {
    case 'method':
      return { code: 'METHOD_NOT_ALLOWED', message: `${path} does not take ${method}`, data: { allow: match.allow } };
    case 'malformed':
      return { code: 'INVALID_REQUEST', message: `the path ${path} is malformed`, data: {} };
    default:
      return { code: 'NO_ROUTE', message: `no live bundle answers ${method} ${path}`, data: {} };
  }
}
