import type { Manifest } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Store } from '../../core/store/store.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import type { FetchPolicy } from './address-policy.ts';
import { createFetcher } from './fetch.ts';
import type { Invoke } from './invoke.ts';
import { runKv } from './kv.ts';

/** What the runner does for the funcs of one revision, which have no network and no credentials themselves. */
export interface GuestServices extends Closable {
  /** @throws INVALID_REQUEST when there is no such operation or the manifest does not declare its service */
  run(request: GuestOperation, signal: AbortSignal): Promise<GuestResult>;
}

export function createGuestServices(
  manifest: Pick<Manifest, 'name' | 'services' | 'fetchAllow'>,
  store: Store,
  policy: FetchPolicy,
  invoke: Invoke,
): GuestServices {
  const fetcher = createFetcher(policy, manifest.fetchAllow);
  const hasKv = Object.values(manifest.services).some((service) => service.type === 'kv');
  return {
    run(request, signal) {
      if (request.name === 'fetch') return fetcher.run(request, signal);
      if (request.name === 'invoke') return invoke(request, signal);
      if (hasKv && request.name.startsWith('kv.')) return runKv(store, manifest.name, request);
      const hint = 'declare the service in x-funcatron.services';
      return Promise.reject(
        new FuncatronError('INVALID_REQUEST', `the bundle has no service for ${request.name}`, { data: { hint } }),
      );
    },
    close: () => fetcher.close(),
  };
}
