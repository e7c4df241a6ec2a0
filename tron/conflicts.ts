import type { Repository } from '../core/bundle/repository.ts';
import { FuncatronError } from '../core/errors.ts';
import type { Api } from '../core/openapi/api.ts';
import { templateKey } from '../core/openapi/template.ts';
import type { BundleEntry } from './bundle-entry.ts';
import type { RegistryState } from './registry.ts';

/**
 * Refuses a change whose routes another bundle already has, be it live or about to be.
 * @throws ROUTE_CONFLICT, STORE_DOWN
 */
export async function checkConflicts(state: RegistryState, name: string, repository: Repository): Promise<void> {
  const routes = await Promise.all(
    state.bundles.map(async (bundle) => {
      const revisions = Object.keys(bundle.name === name ? (bundle.change?.target ?? {}) : routedRevisions(bundle));
      const digests = bundle.revisions
        .filter((entry) => revisions.includes(entry.revision))
        .map(({ digest }) => digest);
      const records = await Promise.all(digests.map((digest) => repository.record(digest)));
      return {
        bundle: bundle.name,
        keys: records.flatMap((record) => (record === undefined ? [] : routeKeys(record.api))),
      };
    }),
  );
  const ours = new Set(routes.find(({ bundle }) => bundle === name)?.keys);
  for (const { bundle, keys } of routes) {
    const taken = bundle === name ? undefined : keys.find((key) => ours.has(key));
    if (taken === undefined) continue;
    throw new FuncatronError('ROUTE_CONFLICT', `bundle ${bundle} already answers ${taken}`, {
      data: {
        bundle,
        hint: `give ${name} another host or base path, or remove ${bundle} with \`funcatron rm ${bundle}\``,
      },
    });
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
