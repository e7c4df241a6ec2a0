import type { Api } from '../core/openapi/api.ts';
import type { BundleRecord } from '../core/bundle/manifest.ts';
import type { BundleState, FrontendReport, RunnerReport, Snapshot } from '../core/wire/control.ts';
import { isWanted, type BundleEntry, type RevisionEntry } from './bundle-entry.ts';

/** What the management API shows of things; the shapes are those of swagger/tron.yaml. */
export type View = Readonly<Record<string, unknown>>;

/** A bundle of the registry, with what the snapshot says about its runners. */
export function viewBundle(bundle: BundleEntry, snapshot: Snapshot | undefined): View {
  const state = snapshot?.bundles.find(({ name }) => name === bundle.name);
  const { change, lastChange, workers } = bundle;
  return {
    bundle: bundle.name,
    ...(state?.host === undefined ? {} : { host: state.host }),
    ...(state === undefined ? {} : { basePath: state.basePath }),
    live: bundle.live,
    draining: Object.keys(bundle.draining),
    revisions: bundle.revisions.map((entry) => viewRevision(bundle, entry, state)),
    ...(workers === undefined ? {} : { workers }),
    ...(change === undefined
      ? {}
      : {
          change: { kind: change.kind, phase: change.phase, weights: change.target, startedAt: iso(change.startedAt) },
        }),
    ...(lastChange === undefined
      ? {}
      : {
          lastChange: {
            kind: lastChange.kind,
            at: iso(lastChange.at),
            weights: lastChange.target,
            ...(lastChange.error === undefined ? {} : { error: lastChange.error }),
          },
        }),
  };
}

/** What each runner has of the bundle: its workers, and where it cannot run it why, since when, and when it tries again. */
export function viewHolders(bundle: Pick<BundleEntry, 'name'>, runners: readonly RunnerReport[]): readonly View[] {
  return runners.flatMap(({ id, revisions }) =>
    revisions
      .filter((held) => held.bundle === bundle.name)
      .map(({ revision, state, workers, bounds, restarts, inFlight, error, since, retryAt }) => ({
        runner: id,
        revision,
        state,
        workers,
        ...(bounds === undefined ? {} : { bounds }),
        ...(restarts === undefined ? {} : { restarts }),
        inFlight,
        ...(error === undefined ? {} : { error }),
        ...(since === undefined ? {} : { since: iso(since) }),
        ...(retryAt === undefined ? {} : { retryAt: iso(retryAt) }),
      })),
  );
}

/** Where events of the bundle that may run for hours run now: how many, and since when the oldest of them. */
export function viewEvents(bundle: Pick<BundleEntry, 'name'>, runners: readonly RunnerReport[]): readonly View[] {
  return runners.flatMap(({ id, revisions }) =>
    revisions.flatMap(({ bundle: name, revision, events }) =>
      name !== bundle.name || events === undefined
        ? []
        : [{ runner: id, revision, running: events.running, since: iso(events.since) }],
    ),
  );
}

function viewRevision(bundle: BundleEntry, entry: RevisionEntry, state: BundleState | undefined): View {
  const held = state?.revisions.find(({ revision }) => revision === entry.revision);
  return {
    revision: entry.revision,
    digest: entry.digest,
    createdAt: iso(entry.createdAt),
    version: entry.version,
    phase: phaseOf(bundle, entry.revision),
    weight: bundle.live[entry.revision] ?? 0,
    runners: held?.runners.length ?? 0,
    ready: held?.ready ?? 0,
  };
}

function phaseOf(bundle: BundleEntry, revision: string): string {
  if (revision in bundle.live) return 'serving';
  if (isWanted(bundle, revision)) return 'loading';
  return revision in bundle.draining ? 'draining' : 'stored';
}

/** Operations that answer HTTP, with their whole path, and those of the queue alone. */
export function viewOperations(api: Api): readonly View[] {
  return api.operations.map(({ operationId, method, path, http, summary }) => ({
    operationId,
    method,
    path: api.basePath + path,
    http,
    ...(summary === undefined ? {} : { summary }),
  }));
}

/** The routes of one bundle's live revisions; a route that several have is there once. */
export function viewRoutes(bundle: BundleEntry, records: readonly BundleRecord[]): readonly View[] {
  const routes = new Map<string, View>();
  for (const { api, revision } of records) {
    for (const { operationId, method, path, http } of api.operations) {
      if (!http) continue;
      const route = {
        bundle: bundle.name,
        operationId,
        method,
        ...(api.host === undefined ? {} : { host: api.host }),
        path: api.basePath + path,
      };
      const key = JSON.stringify(route);
      const weights = { ...(routes.get(key)?.['weights'] as object | undefined), [revision]: bundle.live[revision] };
      routes.set(key, { ...route, weights });
    }
  }
  return [...routes.values()];
}

export function viewRunner(report: RunnerReport & { readonly silentMs: number }): View {
  const { directUrl, revisions } = report;
  return { ...viewMember(report), ...(directUrl === undefined ? {} : { directUrl }), revisions };
}

export function viewFrontend(report: FrontendReport & { readonly silentMs: number }): View {
  const inFlight = Object.values(report.inFlight).reduce((sum, count) => sum + count, 0);
  return { ...viewMember(report), url: report.url, inFlight, failures: report.failures };
}

function viewMember(report: (RunnerReport | FrontendReport) & { readonly silentMs: number }): View {
  const { id, hostname, pid, version, startedAt, epoch, silentMs } = report;
  return { id, hostname, pid, version, startedAt: iso(startedAt), epoch, silentMs };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
