import type { Manifest } from '../../core/bundle/manifest.ts';
import { FuncatronError } from '../../core/errors.ts';
import { parseId } from '../../core/id.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { Log } from '../../core/log.ts';
import type { Store } from '../../core/store/store.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import type { FetchPolicy } from './address-policy.ts';
import { createService } from './create-service.ts';
import { createFetcher } from './fetch.ts';
import type { Invoke } from './invoke.ts';
import { runKv } from './kv.ts';
import type { CallScope, Scopes } from './scopes.ts';
import { guestSecrets, type Secrets } from './secrets.ts';
import { deadlineOf, type Service } from './service.ts';

/** What the runner does for the funcs of one revision, which have no network and no credentials themselves. */
export interface GuestServices extends Closable {
  /** Secrets its funcs may read. */
  readonly secrets: Secrets;
  /** Whether a service lets calls have something they give back: workers then need `withScopes`. */
  readonly vends: boolean;
  /**
   * @param scopes what the calls of the asking worker have taken
   * @throws INVALID_REQUEST when there is no such operation or the manifest does not declare its service
   */
  run(request: GuestOperation, signal: AbortSignal, scopes?: Scopes): Promise<GuestResult>;
}

/** What the services of all revisions share. */
export interface ServiceContext {
  readonly store: Store;
  readonly policy: FetchPolicy;
  readonly invoke: Invoke;
  readonly log: Log;
}

/**
 * Connects to nothing before a func asks.
 * @param secrets all that the manifest names
 * @throws DEPLOY_FAILED when a service's settings cannot be used
 */
export function createGuestServices(
  manifest: Pick<Manifest, 'name' | 'services' | 'fetchAllow' | 'secrets'>,
  secrets: Secrets,
  { store, policy, invoke, log }: ServiceContext,
): GuestServices {
  const fetcher = createFetcher(policy, manifest.fetchAllow);
  const services = new Map<string, Service>();
  let hasKv = false;
  for (const [name, settings] of Object.entries(manifest.services)) {
    if (settings.type === 'kv') hasKv = true;
    const service = createService(name, settings, { secrets, policy, log });
    if (service !== undefined) services.set(name, service);
  }
  return {
    secrets: guestSecrets(manifest, secrets),
    vends: [...services.values()].some((service) => service.vends),
    async run(request, signal, scopes) {
      if (request.name === 'fetch') return await fetcher.run(request, signal);
      if (request.name === 'invoke') return await invoke(request, signal);
      if (request.name === 'scope.end') return await commit(request, scopes);
      if (hasKv && request.name.startsWith('kv.')) return await runKv(store, manifest.name, request);
      const service = services.get(String(request.args['service']));
      if (service !== undefined) return await service.run(request, scopeOf(service, request, scopes), signal);
      const hint = 'declare the service in x-funcatron.services';
      throw new FuncatronError('INVALID_REQUEST', `the bundle has no service for ${request.name}`, { data: { hint } });
    },
    async close() {
      await Promise.all([fetcher.close(), ...[...services.values()].map((service) => service.close())]);
    },
  };
}

function scopeOf(service: Service, request: GuestOperation, scopes: Scopes | undefined): CallScope | undefined {
  if (!service.vends || scopes === undefined || request.callId === undefined) return undefined;
  return scopes.of(callIdOf(request.callId), deadlineOf(request));
}

async function commit({ callId }: GuestOperation, scopes: Scopes | undefined): Promise<GuestResult> {
  if (callId !== undefined) await scopes?.commit(callIdOf(callId));
  return { result: {} };
}

function callIdOf(callId: string): string {
  if (parseId(callId) !== undefined) return callId;
  throw new FuncatronError('INVALID_REQUEST', `${callId.slice(0, 50)} is not the id of a call`);
}
