import type { Problem } from '../core/errors.ts';
import type { LogLine } from '../core/wire/control.ts';

/** What tron answers, as far as the command line reads it. Source: swagger/tron.yaml. */
export interface Deployed {
  readonly bundle: string;
  readonly revision: string;
  /** Absent when it is only stored. */
  readonly alias?: string;
  readonly operations: readonly Operation[];
  readonly warnings: readonly Problem[];
}

export interface Operation {
  readonly operationId: string;
  readonly method: string;
  /** With the base path. */
  readonly path: string;
  /** False where only the queue reaches it. */
  readonly http: boolean;
  readonly summary?: string;
}

export interface Bundle {
  readonly bundle: string;
  readonly host?: string;
  readonly basePath?: string;
  readonly live: Readonly<Record<string, number>>;
  readonly draining: readonly string[];
  readonly revisions: readonly Revision[];
  readonly workers?: { readonly min: number; readonly max: number };
  readonly lastChange?: { readonly kind?: string; readonly error?: { readonly message: string } };
  readonly runners?: readonly Holder[];
  readonly failures?: readonly Holder[];
  /** Events that may run for hours and run now; `since` is ISO 8601. */
  readonly events?: readonly {
    readonly runner: string;
    readonly revision: string;
    readonly running: number;
    readonly since: string;
  }[];
  readonly operations?: readonly Operation[];
}

/** What a runner has of a bundle. Times are ISO 8601. */
export interface Holder {
  readonly runner: string;
  readonly revision: string;
  readonly state: 'loading' | 'ready' | 'failed';
  readonly workers: number;
  readonly bounds?: { readonly min: number; readonly max: number };
  readonly restarts?: number;
  readonly inFlight: number;
  readonly error?: { readonly code: string; readonly message: string; readonly hint?: string };
  readonly since?: string;
  readonly retryAt?: string;
}

export interface Revision {
  readonly revision: string;
  readonly digest: string;
  readonly createdAt: string;
  readonly version: string;
  readonly phase: 'stored' | 'loading' | 'serving' | 'draining';
  readonly weight: number;
  readonly runners: number;
  readonly ready: number;
}

export interface Changed {
  readonly bundle: string;
  readonly weights: Readonly<Record<string, number>>;
}

export interface Logs {
  readonly lines: readonly LogLine[];
}

export interface Routes {
  readonly routes: readonly (Omit<Operation, 'http'> & { readonly bundle: string })[];
}
