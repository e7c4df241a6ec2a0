import type { Repository } from '../core/bundle/repository.ts';
import { FuncatronError } from '../core/errors.ts';
import { within } from '../core/lifecycle.ts';
import type { LogLevel } from '../core/log.ts';
import type { JsonObject } from '../core/openapi/api.ts';
import type { Store } from '../core/store/store.ts';
import { StoreKey, type Snapshot } from '../core/wire/control.ts';
import type { Command, Members, Outcome } from './commands.ts';
import type { Answer, ApiRequest, Endpoint } from './endpoint.ts';
import { invoke } from './invoke.ts';
import type { Logs } from './logs.ts';
import type { BundleEntry, Weights } from './bundle-entry.ts';
import { findBundle, readRegistry, requireBundle, requireRevision, type RegistryState } from './registry.ts';
import type { Replies } from './replies.ts';
import { receiveUpload } from './upload.ts';
import { viewBundle, viewEvents, viewFrontend, viewHolders, viewOperations, viewRoutes, viewRunner } from './views.ts';

export interface EndpointOptions {
  readonly store: Store;
  readonly repository: Repository;
  readonly replies: Replies;
  readonly logs: Logs;
  /** swagger/tron.yaml. */
  readonly document: JsonObject;
  /** Of an operation that names none. */
  readonly callTimeoutMs: number;
  /** @throws STORE_DOWN */
  registry(): Promise<RegistryState>;
  /** Has the leader carry out a command. */
  execute(command: Command): Promise<Outcome>;
}

/** Each upload may hold 64 MiB in memory. */
const MAX_UPLOADS = 4;
/** How long a view waits for the leader, where it can do without. */
const MEMBERS_MS = 1_000;

/** The handlers of swagger/tron.yaml by operationId; a test holds both together. */
export function createEndpoints(options: EndpointOptions): Readonly<Record<string, Endpoint>> {
  const { store, repository, replies, logs, document, callTimeoutMs } = options;
  const execute = (command: Command): Promise<Outcome> => options.execute(command);
  let uploads = 0;

  async function readSnapshot(): Promise<Snapshot | undefined> {
    const bytes = await store.get(StoreKey.snapshot);
    return bytes === undefined ? undefined : (JSON.parse(bytes.toString()) as Snapshot);
  }

  async function see(): Promise<{ state: RegistryState; snapshot: Snapshot | undefined }> {
    const [state, snapshot] = await Promise.all([readRegistry(store), readSnapshot()]);
    return { state, snapshot };
  }

  async function deploy({ query, stream }: ApiRequest): Promise<Answer> {
    const digest = query['digest'] as string | undefined;
    const { record, packed, warnings } = await receiveUpload(stream, digest);
    const bundle = record.manifest.name;
    // Before the leader acts: a leader that takes over a half-done deploy finds the revision already there.
    const [state] = await Promise.all([options.registry(), repository.putArchive(record, packed)]);
    const isKnown = findBundle(state, bundle)?.revisions.some((entry) => entry.digest === record.digest) === true;
    const goLive = query['live'] !== false;
    await execute({ type: 'deploy', bundle, digest: record.digest, goLive });
    return {
      status: isKnown ? 200 : 201,
      json: {
        bundle,
        revision: record.revision,
        ...(goLive ? { alias: 'live' } : {}),
        operations: viewOperations(record.api),
        warnings,
      },
    };
  }

  async function change(command: Extract<Command, { bundle: string }>): Promise<Answer> {
    const { live = {} } = await execute(command);
    return { status: 200, json: { bundle: command.bundle, alias: 'live', weights: live } };
  }

  async function members(): Promise<Members> {
    return (await execute({ type: 'members' })).members ?? { runners: [], frontends: [] };
  }

  /** What runners say; nothing while there is no leader to ask. */
  async function knownRunners(): Promise<Members['runners']> {
    try {
      return (await within(members(), MEMBERS_MS, 'no leader answered')).runners;
    } catch {
      return []; // The rest of what was asked for is in the store.
    }
  }

  /** Records of what is live of a bundle, newest last. */
  async function liveRecords(bundle: BundleEntry) {
    const live = bundle.revisions.filter(({ revision }) => revision in bundle.live);
    const records = await Promise.all(live.map(({ digest }) => repository.record(digest)));
    return records.filter((record) => record !== undefined);
  }

  return {
    getDocument: { isOpen: true, handle: async () => ({ status: 200, json: document }) },

    listBundles: {
      async handle() {
        const { state, snapshot } = await see();
        return { status: 200, json: { bundles: state.bundles.map((bundle) => viewBundle(bundle, snapshot)) } };
      },
    },

    deployBundle: {
      isStreamed: true,
      async handle(request) {
        if (uploads >= MAX_UPLOADS) {
          throw new FuncatronError('OVERLOADED', `${uploads} uploads are under way`, { data: { retryAfterS: 1 } });
        }
        uploads++;
        try {
          return await deploy(request);
        } finally {
          uploads--;
        }
      },
    },

    getBundle: {
      async handle({ params }) {
        const { state, snapshot } = await see();
        const bundle = requireBundle(state, nameOf(params));
        const newest = (await liveRecords(bundle)).at(-1);
        const operations = newest === undefined ? {} : { operations: viewOperations(newest.api) };
        // Only the leader has the reports.
        const known = await knownRunners();
        const runners = viewHolders(bundle, known);
        const failures = runners.filter(({ state: held }) => held === 'failed');
        const events = viewEvents(bundle, known);
        return {
          status: 200,
          json: {
            ...viewBundle(bundle, snapshot),
            ...(runners.length === 0 ? {} : { runners }),
            ...(failures.length === 0 ? {} : { failures }),
            ...(events.length === 0 ? {} : { events }),
            ...operations,
          },
        };
      },
    },

    removeBundle: {
      async handle({ params, query }) {
        const { draining = [] } = await execute({
          type: 'remove',
          bundle: nameOf(params),
          purge: query['purge'] === true,
        });
        return draining.length === 0 ? { status: 204 } : { status: 202, json: { draining } };
      },
    },

    listRevisions: {
      async handle({ params }) {
        const { state, snapshot } = await see();
        const { revisions } = viewBundle(requireBundle(state, nameOf(params)), snapshot);
        return { status: 200, json: { revisions } };
      },
    },

    getArchive: {
      async handle({ params }) {
        const bundle = requireBundle(await readRegistry(store), nameOf(params));
        const { digest } = requireRevision(bundle, String(params['revision']));
        const archive = await repository.archive(digest);
        if (archive === undefined) throw new FuncatronError('NOT_FOUND', `the archive ${digest} is not in the store`);
        return { status: 200, bytes: archive.packed, contentType: 'application/gzip' };
      },
    },

    setAlias: {
      async handle({ params, body }) {
        const { weights } = parse(body) as { readonly weights: Weights };
        const positive = Object.fromEntries(Object.entries(weights).filter(([, weight]) => weight > 0));
        if (Object.keys(positive).length === 0) {
          throw new FuncatronError('INVALID_REQUEST', 'every weight is 0', {
            data: { hint: 'to take a bundle away: DELETE /v1/bundles/{bundle}' },
          });
        }
        return change({ type: 'alias', bundle: nameOf(params), weights: positive });
      },
    },

    rollbackBundle: { handle: async ({ params }) => change({ type: 'rollback', bundle: nameOf(params) }) },

    scaleBundle: {
      async handle({ params, body }) {
        const workers = parse(body) as { readonly min: number; readonly max: number };
        if (workers.min > workers.max) {
          throw new FuncatronError('INVALID_REQUEST', `min ${workers.min} is more than max ${workers.max}`);
        }
        await execute({ type: 'scale', bundle: nameOf(params), workers });
        return { status: 200, json: workers };
      },
    },

    invokeOperation: {
      async handle({ params, headers, body }) {
        const bundle = requireBundle(await readRegistry(store), nameOf(params));
        const operationId = String(params['operation']);
        const apis = (await liveRecords(bundle)).map((record) => record.api);
        const operation = apis.flatMap((api) => api.operations).findLast((each) => each.operationId === operationId);
        if (operation === undefined) {
          throw new FuncatronError('NOT_FOUND', `no live revision of ${bundle.name} has an operation ${operationId}`, {
            data: { hint: `GET /v1/bundles/${bundle.name} lists its operations` },
          });
        }
        const timeoutMs = operation.timeoutMs || callTimeoutMs;
        return invoke(replies, { bundle: bundle.name, operationId, headers, body, timeoutMs }).then(
          ({ status, contentType, body: bytes }) => ({ status, bytes, contentType }),
        );
      },
    },

    listRoutes: {
      async handle() {
        const { bundles } = await readRegistry(store);
        const routes = await Promise.all(bundles.map(async (bundle) => viewRoutes(bundle, await liveRecords(bundle))));
        const sorted = routes.flat().sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
        return { status: 200, json: { routes: sorted } };
      },
    },

    listRunners: {
      handle: async () => ({ status: 200, json: { runners: (await members()).runners.map(viewRunner) } }),
    },

    listFrontends: {
      handle: async () => ({ status: 200, json: { frontends: (await members()).frontends.map(viewFrontend) } }),
    },

    readLogs: {
      async handle({ query }) {
        const { bundle, level, call, since, limit, follow } = query as Readonly<Record<string, string | undefined>>;
        const filter = {
          bundle,
          level: level as LogLevel | undefined,
          call,
          since: since === undefined ? undefined : Date.parse(since),
        };
        const past = logs.read(filter, Number(limit ?? 1_000));
        if (Number(follow ?? 0) === 0) return { status: 200, json: { lines: past } };
        return { past, follow: (listener) => logs.follow(filter, listener) };
      },
    },
  };
}

function nameOf(params: ApiRequest['params']): string {
  return String(params['bundle']);
}

/** The document has checked it already. */
function parse(body: Buffer | undefined): unknown {
  return JSON.parse(body?.toString() ?? 'null');
}

function sortKey(route: Readonly<Record<string, unknown>>): string {
  return JSON.stringify([route['host'] ?? '', route['path'], route['method']]);
}
