import type { Repository } from '../core/bundle/repository.ts';
import { FuncatronError } from '../core/errors.ts';
import type { Api } from '../core/openapi/api.ts';
import { templateKey } from '../core/openapi/template.ts';
import type { BundleEntry } from './bundle-entry.ts';
import { findBundle, type RegistryState } from './registry.ts';

/** Who has which route, be it live or about to be. A record is read once, and an entry that is the same is not looked at again. */
export class RouteIndex {
  readonly #repository: Pick<Repository, 'record'>;
  readonly #bundles = new Map<string, { readonly entry: BundleEntry; readonly keys: readonly string[] }>();
  /** Names of bundles by `routeKeys`. */
  readonly #holders = new Map<string, Set<string>>();

  constructor(repository: Pick<Repository, 'record'>) {
    this.#repository = repository;
  }

  /**
   * Refuses a state in which the change of a bundle takes routes that another bundle has. One call at a time.
   * @throws ROUTE_CONFLICT, STORE_DOWN
   */
  async check(state: RegistryState, name: string): Promise<void> {
    await this.#follow(state.bundles.filter((entry) => this.#bundles.get(entry.name)?.entry !== entry));
    if (this.#bundles.size > state.bundles.length) {
      const names = new Set(state.bundles.map((entry) => entry.name));
      for (const known of this.#bundles.keys()) if (!names.has(known)) this.#forget(known);
    }
    const entry = findBundle(state, name);
    for (const key of await this.#keysOf(entry, entry?.change?.target ?? {})) {
      const other = this.#holders
        .get(key)
        ?.values()
        .find((holder) => holder !== name);
      if (other === undefined) continue;
      throw new FuncatronError('ROUTE_CONFLICT', `bundle ${other} already answers ${key}`, {
        data: {
          bundle: other,
          hint: `give ${name} another host or base path, or remove ${other} with \`funcatron rm ${other}\``,
        },
      });
    }
  }

  async #follow(changed: readonly BundleEntry[]): Promise<void> {
    const keys = await Promise.all(changed.map((entry) => this.#keysOf(entry, routedRevisions(entry))));
    for (const [index, entry] of changed.entries()) {
      this.#forget(entry.name);
      const its = keys[index] ?? [];
      this.#bundles.set(entry.name, { entry, keys: its });
      for (const key of its) this.#holders.set(key, (this.#holders.get(key) ?? new Set()).add(entry.name));
    }
  }

  #forget(name: string): void {
    for (const key of this.#bundles.get(name)?.keys ?? []) {
      const holders = this.#holders.get(key);
      holders?.delete(name);
      if (holders?.size === 0) this.#holders.delete(key);
    }
    this.#bundles.delete(name);
  }

  async #keysOf(
    entry: BundleEntry | undefined,
    revisions: Readonly<Record<string, number>>,
  ): Promise<readonly string[]> {
    const held = entry?.revisions.filter(({ revision }) => revision in revisions) ?? [];
    const records = await Promise.all(held.map(({ digest }) => this.#repository.record(digest)));
    return records.flatMap((record) => (record === undefined ? [] : routeKeys(record.api)));
  }
}

function routedRevisions(bundle: BundleEntry): Record<string, number> {
  return { ...bundle.live, ...bundle.change?.target };
}

/** One text per route; two are equal when the router could not tell them apart: `GET any-host/shop/orders/{}`. */
export function routeKeys(api: Api): readonly string[] {
  return api.operations
    .filter((operation) => operation.http)
    .map(({ method, path }) => `${method} ${api.host ?? 'any-host'}${api.basePath}${templateKey(path)}`);
}
