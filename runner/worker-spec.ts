import { SERVICE_TYPES } from '../core/bundle/service-settings.ts';
import type { LoadedBundle } from './bundle-cache.ts';
import type { WorkerSpec } from './isolate/isolate.ts';

/** How long a worker may take until its `init` has passed. */
const START_TIMEOUT_MS = 20_000;

/** What a worker is told of a bundle. */
export function workerSpecOf(
  { record, source, sourceMap, folder }: LoadedBundle,
  secrets: NonNullable<WorkerSpec['secrets']>,
  directBytes: number,
): WorkerSpec {
  const { manifest, api } = record;
  return {
    bundle: manifest.name,
    revision: record.revision,
    source,
    ...(sourceMap === undefined ? {} : { sourceMap }),
    ...(folder === undefined ? {} : { folder }),
    operations: api.operations.map(({ operationId, handler, method, path, direct }) => ({
      operationId,
      handler,
      method,
      path,
      ...(direct === true ? { isDirect: true } : {}),
    })),
    config: manifest.config,
    services: typesOf(manifest.services),
    secrets,
    directBytes,
    memoryMb: manifest.memoryMb,
    concurrency: manifest.concurrency,
    stackTraces: manifest.stackTraces,
    entry: manifest.entry,
    state: manifest.state,
    logLevel: manifest.logLevel,
    idleTimeoutS: manifest.idleTimeoutS,
    permissions: manifest.permissions,
    startTimeoutMs: START_TIMEOUT_MS,
  };
}

/** Where the runner's services are and who they are reached as stays with it; those of the bundle's own are the bundle's. */
function typesOf(services: Readonly<Record<string, { readonly type: string }>>): WorkerSpec['services'] {
  return Object.fromEntries(
    Object.entries(services).map(([name, service]) => [
      name,
      isBuiltIn(service.type) ? { type: service.type } : service,
    ]),
  );
}

function isBuiltIn(type: string): boolean {
  return SERVICE_TYPES.some((known) => known === type);
}
