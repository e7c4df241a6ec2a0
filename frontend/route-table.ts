import type { ErrorCode, ErrorData } from '../core/errors.ts';
import { createRouter, type Match, type Router } from '../core/openapi/router.ts';
import { parseTemplate, templateKey } from '../core/openapi/template.ts';
import type { BundleState, Epoch } from '../core/wire/control.ts';
import { revisionKey, type Operation, type Revision } from './revision.ts';

/** Which operations answer which requests, as of one epoch. Never changed: a new one takes its place. */
export interface RouteTable {
  readonly epoch: Epoch;
  /** The revisions calls may go to now. */
  readonly revisions: readonly Revision[];
  readonly router: Router<Route>;
}

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

/** The table of these bundles; a weighted revision that is not in `held` is left out. */
export function createRouteTable(
  epoch: Epoch,
  bundles: readonly BundleState[],
  held: ReadonlyMap<string, Revision>,
): RouteTable {
  const routes = new Map<string, RouteEntryOf>();
  const revisions: Revision[] = [];
  for (const bundle of bundles) {
    for (const [name, weight] of Object.entries(bundle.weights)) {
      const revision = held.get(revisionKey(bundle.name, name));
      if (revision === undefined || weight <= 0) continue;
      revisions.push(revision);
      addRoutes(routes, revision, weight);
    }
  }
  return { epoch, revisions, router: createRouter(routes.values()) };
}

interface RouteEntryOf {
  readonly host: string | undefined;
  readonly basePath: string;
  readonly method: string;
  readonly path: string;
  readonly value: Route;
}

function addRoutes(routes: Map<string, RouteEntryOf>, revision: Revision, weight: number): void {
  const { host, basePath } = revision.record.api;
  for (const operation of revision.operations) {
    const { method, path, http } = operation.spec;
    if (!http) continue;
    // The bundle is part of the key: a bundle never shares a route with another one, whose requests these are not.
    const key = `${revision.bundle} ${host ?? ''} ${method} ${templateKey(basePath + path)}`;
    const entry = routes.get(key);
    if (entry === undefined) {
      routes.set(key, { host, basePath, method, path, value: new Route({ operation, weight }) });
    } else {
      const names = renamed(entry.basePath + entry.path, basePath + path);
      entry.value.add({ operation, weight, ...(names === undefined ? {} : { names }) });
    }
  }
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
