import type { BundleRecord } from '../core/bundle/manifest.ts';
import { batchMaxOf } from '../core/bundle/manifest.ts';
import { FuncatronError } from '../core/errors.ts';
import type { Store } from '../core/store/store.ts';
import type { BundleEntry, RevisionEntry } from './bundle-entry.ts';
import { bundlesJson } from './bundles-json.ts';
import type { FencedKey } from './fenced-key.ts';

/** Where the registry is kept; only Trons read it. */
export const REGISTRY_KEY = 'state/registry';

/** What was uploaded and what should be live: the cluster's whole memory beside the archives themselves. */
export interface RegistryState {
  readonly v: 1;
  /** Of the leader that wrote it. */
  readonly term: number;
  /** Counts this term's writes, so that no two texts are equal. */
  readonly n: number;
  /** By name, sorted. A list, because a bundle may be called `constructor`. */
  readonly bundles: readonly BundleEntry[];
}

export const EMPTY_REGISTRY: RegistryState = { v: 1, term: 0, n: 0, bundles: [] };

/** @throws INTERNAL when the text is no registry of this version */
export function parseRegistry(text: string | undefined): RegistryState {
  if (text === undefined) return EMPTY_REGISTRY;
  const state = JSON.parse(text) as Partial<RegistryState>;
  if (state.v !== 1 || !Array.isArray(state.bundles)) {
    throw new FuncatronError('INTERNAL', `the registry in the store is of version ${String(state.v)}, not 1`);
  }
  return state as RegistryState;
}

/** The registry as any Tron sees it. @throws STORE_DOWN */
export async function readRegistry(store: Store): Promise<RegistryState> {
  return parseRegistry((await store.get(REGISTRY_KEY))?.toString());
}

export function findBundle(state: RegistryState, name: string): BundleEntry | undefined {
  return state.bundles.find((bundle) => bundle.name === name);
}

/** @throws NOT_FOUND */
export function requireBundle(state: RegistryState, name: string): BundleEntry {
  const bundle = findBundle(state, name);
  if (bundle !== undefined) return bundle;
  const known = state.bundles.map((entry) => entry.name).join(', ');
  throw new FuncatronError('NOT_FOUND', `no bundle is called ${name}`, {
    data: { hint: known === '' ? 'deploy one first' : `there are: ${known}` },
  });
}

/** @throws NOT_FOUND */
export function requireRevision(bundle: BundleEntry, revision: string): RevisionEntry {
  const found = bundle.revisions.find((entry) => entry.revision === revision);
  if (found !== undefined) return found;
  throw new FuncatronError('NOT_FOUND', `bundle ${bundle.name} has no revision ${revision}`, {
    data: { hint: `it has: ${bundle.revisions.map((entry) => entry.revision).join(', ')}` },
  });
}

export function putBundle(state: RegistryState, bundle: BundleEntry): RegistryState {
  const others = state.bundles.filter((entry) => entry.name !== bundle.name);
  const bundles = [...others, bundle].sort((a, b) => (a.name < b.name ? -1 : 1));
  return { ...state, bundles };
}

export function dropBundle(state: RegistryState, name: string): RegistryState {
  return { ...state, bundles: state.bundles.filter((entry) => entry.name !== name) };
}

/**
 * Remembers an uploaded revision; the bundle is made when it is its first.
 * @throws DIGEST_MISMATCH when another content has the same short name
 */
export function addRevision(state: RegistryState, record: BundleRecord): RegistryState {
  const { name } = record.manifest;
  const bundle = findBundle(state, name) ?? { name, revisions: [], live: {}, history: [], draining: {} };
  const known = bundle.revisions.find((entry) => entry.revision === record.revision);
  if (known !== undefined && known.digest !== record.digest) {
    throw new FuncatronError(
      'DIGEST_MISMATCH',
      `revision ${record.revision} of ${name} is ${known.digest}, not ${record.digest}`,
      { data: { hint: 'change anything in the bundle, so that it gets another digest' } },
    );
  }
  if (known !== undefined) return state;
  const entry: RevisionEntry = {
    revision: record.revision,
    digest: record.digest,
    createdAt: record.createdAt,
    version: record.api.version,
    ...(record.api.host === undefined ? {} : { host: record.api.host }),
    basePath: record.api.basePath,
    batchMax: batchMaxOf(record.manifest.concurrency),
  };
  return putBundle(state, { ...bundle, revisions: [...bundle.revisions, entry] });
}

/**
 * The registry of the leading Tron: the state in memory is the state in the store. Updates are carried out one after
 * the other.
 */
export class Registry {
  readonly #key: FencedKey;
  readonly #listeners = new Set<() => void>();
  readonly #texts = new WeakMap<BundleEntry, string>();
  #state: RegistryState;
  #last: Promise<unknown> = Promise.resolve();

  constructor(key: FencedKey, state: RegistryState) {
    this.#key = key;
    this.#state = state;
  }

  get state(): RegistryState {
    return this.#state;
  }

  /** Calls back after every update; returns how to stop. */
  onUpdate(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Computes the next state from the current one and writes it; the same state means nothing is written.
   * @throws NO_LEADER, and what `next` throws
   */
  update(next: (state: RegistryState) => RegistryState | Promise<RegistryState>): Promise<RegistryState> {
    const done = this.#last.then(() => this.#update(next));
    // The next update waits for this one, whatever became of it.
    this.#last = done.catch(() => {});
    return done;
  }

  /** As `update`, for one bundle that must exist. @throws NOT_FOUND */
  updateBundle(name: string, next: (bundle: BundleEntry) => BundleEntry): Promise<RegistryState> {
    return this.update((state) => putBundle(state, next(requireBundle(state, name))));
  }

  async #update(next: (state: RegistryState) => RegistryState | Promise<RegistryState>): Promise<RegistryState> {
    const before = this.#state;
    const changed = await next(before);
    if (changed === before) return before;
    const state = { ...changed, n: before.n + 1 };
    await this.#key.write(this.#textOf(state));
    this.#state = state;
    for (const listener of this.#listeners) listener();
    return state;
  }

  #textOf({ bundles, ...head }: RegistryState): string {
    return bundlesJson(
      head,
      bundles.map((bundle) => {
        const text = this.#texts.get(bundle) ?? JSON.stringify(bundle);
        this.#texts.set(bundle, text);
        return text;
      }),
    );
  }
}
