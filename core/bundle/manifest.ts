/**
 * What `x-funcatron` at the top of a document says, with its defaults filled in. `swagger/funcatron.schema.json` is
 * the complete list of keys; `readManifest` checks against it.
 */
export interface Manifest {
  /** `[a-z0-9-]{1,63}`; default: slug of `info.title`. */
  readonly name: string;
  readonly runtime: 'js';
  /** Source file, relative to the bundle's folder; only `pack` reads it. */
  readonly entry: string;
  readonly isolation: 'process';
  readonly memoryMb: number;
  /** Calls at once in one worker. */
  readonly concurrency: number;
  /** Workers per runner. */
  readonly workers: { readonly min: number; readonly max: number };
  /** `context.config`: any JSON. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Services by the name the func reaches them under: `context.services.<name>`. */
  readonly services: Readonly<Record<string, { readonly type: 'kv' }>>;
  /** `host` or `host:port` of private addresses the bundle asks to fetch; the operator has to allow them too. */
  readonly fetchAllow: readonly string[];
  readonly stackTraces: boolean;
}

/** Calls one message may hold for a revision: a quarter of a worker's slots, so that several workers and runners share a burst. */
export function batchMaxOf(concurrency: number): number {
  return Math.max(1, Math.min(32, Math.floor(concurrency / 4)));
}

/** Messages a runner takes ahead: what fills its slots with full batches. RabbitMQ cannot change it on a live consumer. */
export function prefetchOf(manifest: Pick<Manifest, 'concurrency' | 'workers'>, cap: number): number {
  const full = Math.floor((manifest.workers.max * manifest.concurrency) / batchMaxOf(manifest.concurrency));
  return Math.max(1, Math.min(cap, full));
}

/** What Tron derives from an archive once and stores under its digest; frontends and runners read it. */
export interface BundleRecord {
  readonly digest: string;
  readonly revision: string;
  readonly manifest: Manifest;
  readonly api: import('../openapi/api.ts').Api;
  /** Bytes of the packed archive and how many store chunks hold it. */
  readonly archiveBytes: number;
  readonly chunks: number;
  readonly createdAt: number;
}

/** Hex digits of the digest that name a revision. */
export const REVISION_LENGTH = 12;
