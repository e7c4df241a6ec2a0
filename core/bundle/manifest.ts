import type { LogLevel } from '../log.ts';
import type { ServiceSettings } from './service-settings.ts';

/**
 * What `x-funcatron` at the top of a document says, with its defaults filled in. `swagger/funcatron.schema.json` is
 * the complete list of keys; `readManifest` checks against it.
 */
export interface Manifest {
  /** `[a-z0-9-]{1,63}`; default: slug of `info.title`. */
  readonly name: string;
  readonly runtime: Runtime;
  /** A file, relative to the bundle's folder; `http`, `default`: a command line that runs in it. */
  readonly entry: string;
  readonly isolation: Isolation;
  readonly memoryMb: number;
  /** Calls at once in one worker. */
  readonly concurrency: number;
  /** Workers per runner; `min` 0 = scale to zero. */
  readonly workers: { readonly min: number; readonly max: number };
  /** Seconds after which an idle worker above `workers.min` ends. */
  readonly idleTimeoutS: number;
  /** Whether `context.state`, and the context itself, live as long as the worker or as one call. */
  readonly state: 'kept' | 'fresh';
  /** `context.config`: any JSON. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Services by the name the func reaches them under: `context.services.<name>`. */
  readonly services: Readonly<Record<string, ServiceSettings>>;
  /** `host` or `host:port` of private addresses the bundle asks to fetch; the operator has to allow them too. */
  readonly fetchAllow: readonly string[];
  /** Names of secrets the func may read; their values stay with the operator. */
  readonly secrets: readonly string[];
  /** Lines below it are dropped in the worker. */
  readonly logLevel: LogLevel;
  readonly stackTraces: boolean;
  /** What the code of a `node` bundle may reach beyond its own files; absent in records of older versions: nothing. */
  readonly permissions?: Permissions;
}

/** Rights of a `node` bundle, as Node's permission model has them. What is not declared is denied. */
export interface Permissions {
  readonly net: boolean;
  /** Absolute paths on the runner. */
  readonly fs: { readonly read: readonly string[]; readonly write: readonly string[] };
  /** Starting processes, to which none of this applies. */
  readonly child: boolean;
}

export type Runtime = 'js' | 'node' | 'http' | 'default' | 'python';
export type Isolation = 'process' | 'thread' | 'strict';

/** Calls one message may hold for a revision: a third of a worker's slots, so that several workers and runners share a burst. */
export function batchMaxOf(concurrency: number): number {
  return Math.max(1, Math.min(32, Math.floor(concurrency / 3)));
}

/** Messages a runner takes at once when they are full: what fills its slots. Of smaller ones it takes more: see `Intake`. */
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
