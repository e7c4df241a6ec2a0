import type { LoadedBundle } from './bundle-cache.ts';
import type { WorkerSpec } from './isolate/isolate.ts';

/** How long a worker may take until its `init` has passed. */
const START_TIMEOUT_MS = 20_000;

/** What a worker is told of a bundle. */
export function workerSpecOf(
  { record, source, sourceMap, folder }: LoadedBundle,
  secrets: NonNullable<WorkerSpec['secrets']>,
): WorkerSpec {
  const { manifest, api } = record;
  return {
    bundle: manifest.name,
    revision: record.revision,
    source,
    ...(sourceMap === undefined ? {} : { sourceMap }),
    ...(folder === undefined ? {} : { folder }),
    operations: api.operations.map(({ operationId, handler }) => ({ operationId, handler })),
    config: manifest.config,
    services: typesOf(manifest.services),
    secrets,
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

/** Where services are and who they are reached as stays with the runner. */
function typesOf(services: Readonly<Record<string, { readonly type: string }>>): WorkerSpec['services'] {
  return Object.fromEntries(Object.entries(services).map(([name, { type }]) => [name, { type }]));
}
