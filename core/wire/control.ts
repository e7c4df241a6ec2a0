/** Messages between the roles: whole states, never changes, so that a lost, doubled or reordered one does no harm. JSON, `v` = 1. */

/** `<term>.<n>`: the term grows with every new leader, n with every change it makes. */
export type Epoch = `${number}.${number}`;

/** Negative, 0 or positive as `a` is older than, equal to or newer than `b`. */
export function compareEpochs(a: Epoch, b: Epoch): number {
  const [termA = 0, nA = 0] = a.split('.').map(Number);
  const [termB = 0, nB = 0] = b.split('.').map(Number);
  return termA - termB || nA - nB;
}

export const FIRST_EPOCH: Epoch = '0.0';

/** Desired state and route table in one, published on `funcatron.state` and kept in the store under `SNAPSHOT_KEY`. */
export interface Snapshot {
  readonly v: 1;
  readonly epoch: Epoch;
  /** Unix ms on the leader's clock, for clock offset estimates. */
  readonly sentAt: number;
  /** Id of the leading Tron. */
  readonly leader: string;
  readonly bundles: readonly BundleState[];
}

/** One bundle: its routes' home and its revisions. */
export interface BundleState {
  readonly name: string;
  readonly host?: string;
  readonly basePath: string;
  /** Weight by revision of the alias `live`; empty until the first revision is live. Frontends route by it. */
  readonly weights: Readonly<Record<string, number>>;
  readonly eventQueue: string;
  readonly revisions: readonly RevisionState[];
}

/** One revision that some runner should hold. */
export interface RevisionState {
  readonly revision: string;
  readonly digest: string;
  /** `fn.<bundle>.<revision>`: carried here, never derived by its users. */
  readonly queue: string;
  readonly batchMax: number;
  /** Ids of the runners that should hold it. */
  readonly runners: readonly string[];
  /** How many of them report it ready: 0 means a call would wait for nobody. */
  readonly ready: number;
  /** When every one of them failed: unix ms before which none tries again, on the runners' clocks. */
  readonly retryAt?: number;
  /** `draining`: no new calls are routed to it; runners keep it until it leaves the snapshot. */
  readonly phase: 'loading' | 'serving' | 'draining';
  /** Workers per runner when they were set by `scale`, over the manifest's. */
  readonly workers?: { readonly min: number; readonly max: number };
}

/** What a role really holds; sent to `funcatron.report` every `reportMs` and on change. */
export type Report = RunnerReport | FrontendReport;

interface ReportBase {
  readonly v: 1;
  readonly id: string;
  readonly version: string;
  readonly hostname: string;
  readonly pid: number;
  readonly startedAt: number;
  /** Unix ms on the sender's clock. */
  readonly sentAt: number;
  /** The newest epoch it acts on. */
  readonly epoch: Epoch;
  /** Leaving: drop it at once. */
  readonly stopping: boolean;
}

export interface RunnerReport extends ReportBase {
  readonly role: 'runner';
  /** Where frontends bring and fetch long bodies; absent from older runners. */
  readonly directUrl?: string;
  readonly revisions: readonly HeldRevision[];
}

export interface HeldRevision {
  readonly bundle: string;
  readonly revision: string;
  readonly state: 'loading' | 'ready' | 'failed';
  /** Workers that take calls. */
  readonly workers: number;
  /** How many there may be, as `scale` or the manifest says; absent until it is loaded, and from older runners. */
  readonly bounds?: { readonly min: number; readonly max: number };
  /** Workers that took the place of one that died or was retired, since it was loaded; absent from older runners. */
  readonly restarts?: number;
  readonly inFlight: number;
  /** Events that may run for hours and run now, and unix ms when the oldest of them started; absent = none. */
  readonly events?: { readonly running: number; readonly since: number };
  /** Why it failed, in the func's own words where it was the func; `hint` says what to do about it. */
  readonly error?: { readonly code: string; readonly message: string; readonly hint?: string };
  /** When failed: unix ms since when, and of the next attempt, on the runner's clock. */
  readonly since?: number;
  readonly retryAt?: number;
}

export interface FrontendReport extends ReportBase {
  readonly role: 'frontend';
  readonly url: string;
  /** Calls in flight by `<bundle>@<revision>`; absent = 0. */
  readonly inFlight: Readonly<Record<string, number>>;
  /** Bundles whose routes could not be loaded, by name, with the reason. */
  readonly failures: Readonly<Record<string, string>>;
}

/** Batched ids of calls nobody waits for any more, on `funcatron.cancel`: 16 bytes each, no header. */
export type CancelBody = Buffer;

/** One line of a func's log; a message on `funcatron.log` is a JSON list of them, all of one bundle and level. */
export interface LogLine {
  readonly time: number;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly bundle: string;
  readonly revision: string;
  readonly operationId?: string;
  readonly callId?: string;
  readonly runner: string;
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Lines lost before this one because there were too many. */
  readonly dropped?: number;
}

/** Store keys that several roles share. */
export const StoreKey = {
  snapshot: 'state/snapshot',
  leader: 'state/leader',
  tokenHash: 'token/sha256',
  /** `BundleRecord` as JSON. */
  record: (digest: string): string => `bundle/${digest}/record`,
  /** Piece `n` (512 KiB) of the packed archive. */
  chunk: (digest: string, n: number): string => `bundle/${digest}/chunk/${n}`,
  /** Owners of events that may run for hours, as a JSON list; see runner/triggers/event-leases.ts. */
  eventOwners: 'event/owners',
  eventLease: (owner: string): string => `event/lease/${owner}`,
  event: (owner: string, id: string): string => `event/of/${owner}/${id}`,
  /** One key of a bundle's `context.services.kv`. */
  kv: (bundle: string, key: string): string => `kv/${bundle}/${key}`,
} as const;
