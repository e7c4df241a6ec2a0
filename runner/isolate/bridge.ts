import type { WorkerOperation } from './isolate.ts';

/**
 * The bridge between a worker's host code and its guest: two realms in one process. The host holds the functions of
 * `Guest` and calls them; the guest holds nothing of the host's. Only strings and numbers cross as values; bytes cross
 * through `shared`, an ArrayBuffer that the guest made and never shows to the bundle.
 * Why: a host object handed to a guest, of whatever kind, gives it the host's `process` (docs/security.md).
 */
export interface Guest {
  /** `CELLS` int32 cells, `CLOCKS` float64 cells, then a window of `WINDOW_BYTES`. */
  readonly shared: ArrayBuffer;
  /** `Promise.prototype` of the realm: only to be compared, it tells whose promise a stray one is. */
  readonly promises: object;
  /** Once, first: a `LoadSpec` as JSON, and unix ms. The seed of the random generator lies in the window. */
  setup(spec: string, unixMs: number): void;
  /** Runs the compiled bundle and finds its handlers; what went wrong comes back as the JSON of a `StartFailure`, else ''. */
  evaluate(bundle: BundleFunction): string;
  /** Calls the bundle's `init`; its end comes through `take` (`Out.started`). */
  init(): void;
  /** Calls the bundle's `destroy`; its end comes through `take` (`Out.stopped`). */
  destroy(): void;
  /**
   * A call. The id is four int32; the deadline is unix ms on this machine; bytes come before it through `receive`.
   * Returns 1 when its reply is there already, 0 when it goes on.
   */
  enter(
    slot: number,
    operation: number,
    flags: number,
    attempt: number,
    id0: number,
    id1: number,
    id2: number,
    id3: number,
    deadline: number,
    meta: string,
    body: string | undefined,
  ): number;
  /** Aborts the signal of a call: 0 the caller is gone, 1 the deadline passed. */
  abort(slot: number, why: number): void;
  /** Runs one timer that is due; returns how many more are due. */
  timer(): number;
  /** Ends an operation: 1 done with a result as JSON, 0 failed with `{code, message}`; bytes come before it through `receive`. */
  settle(id: number, done: number, json: string): void;
  /** Something has happened to a body: see `StreamEvent`. The number stands for it, the rest depends on the event. */
  stream(event: number, number: number, bytes: number, text: string): void;
  /** Logs what a promise of the guest's was rejected with and nobody handled: the guest's own value, given back unseen. */
  stray(reason: unknown): void;
  /** Announces bytes for the next `enter` or `settle`. */
  announce(bytes: number): void;
  /** The next `length` of them lie in the window. */
  receive(offset: number, length: number): void;
  /** The next thing the guest has for the host, described by the cells; `undefined` when there is nothing more. */
  take(): string | undefined;
  /** The meta of the reply just taken. */
  takeMeta(): string;
  /** Copies bytes of what was just taken into the window, from `offset` on; returns how many. */
  takeBytes(offset: number): number;
}

/** `bundle.js` compiled as the body of a function, inside the guest. */
export type BundleFunction = (module: { exports: unknown }, exports: unknown, require: unknown) => void;

/** Int32 cells at the start of `shared`. */
export const Cell = {
  /** What was taken, of `Out`. */
  out: 0,
  /** Slot of a reply, id of an operation. */
  id: 1,
  status: 2,
  flags: 3,
  /** Length of the bytes of a reply's body or of an operation; -1 when there are none. */
  bytes: 4,
  /** 1 when a reply has a meta. */
  meta: 5,
  /** Before `enter`: the number of the call's body, 0 when it is no stream. Of a reply: the number of its body, or 0. */
  stream: 6,
} as const;
export const CELLS = 16;

/** Float64 cells behind them; both are whole ms since the worker started. */
export const Clock = {
  /** Written by the host before it enters the guest. */
  nowMs: 0,
  /** After the last `take`: when the next timer is due, or Infinity. */
  timerDueMs: 1,
} as const;
export const CLOCKS = 2;
export const CLOCKS_AT = CELLS * 4;
export const WINDOW_AT = CLOCKS_AT + CLOCKS * 8;
export const WINDOW_BYTES = 64 * 1024;

/** Bytes that seed the guest's random generator. */
export const SEED_BYTES = 32;

/** What `take` hands over. */
export const Out = {
  reply: 1,
  failure: 2,
  log: 3,
  op: 4,
  opCancel: 5,
  started: 6,
  stopped: 7,
  /** A piece of the body with this number; its end, with trailers as JSON or nothing; that it broke off, with the reason. */
  streamData: 8,
  streamEnd: 9,
  streamReset: 10,
  /** So many bytes of the body with this number have been read. */
  streamCredit: 11,
} as const;

/** What `Guest.stream` tells. */
export const StreamEvent = {
  /**
   * So many bytes of the window, or with 0 those received, are the next piece of a call's body; it has ended; it broke
   * off, for the reason in the text.
   */
  data: 1,
  end: 2,
  break: 3,
  /** So many more bytes of an answer's body may be sent; nobody wants the rest. */
  credit: 4,
  stop: 5,
} as const;

/** What one direction of a stream may send before it is given credit, how much is read before credit is given, and the longest piece. */
export const STREAM_CREDIT_BYTES = 1024 * 1024;
export const STREAM_STEP_BYTES = 256 * 1024;
export const STREAM_FRAME_BYTES = 64 * 1024;

/** Failures a guest reports, by their index in `Cell.status`; the body is `{code, message}`. */
export const FAILURES = [
  'FUNC_ERROR',
  'INVALID_RESPONSE',
  'RESPONSE_TOO_LARGE',
  'COMMIT_FAILED',
  'SERVICE_BUSY',
  'TIMEOUT',
  'LOOP_DETECTED',
  'INVALID_REQUEST',
  'PAYLOAD_TOO_LARGE',
] as const;
export type Failure = (typeof FAILURES)[number];

/** What a worker's process is told beside the bundle's text. */
export interface LoadSpec {
  readonly bundle: string;
  readonly revision: string;
  readonly operations: readonly WorkerOperation[];
  readonly config: Readonly<Record<string, unknown>>;
  readonly services: Readonly<Record<string, { readonly type: string }>>;
  readonly secrets?: Readonly<Record<string, string>>;
  readonly stackTraces: boolean;
  /** Lines below it are not made; default: all are. */
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error' | undefined;
  /** Length of the code cache that comes with the bundle's text; default: 0. */
  readonly codeCacheBytes?: number;
  /** From this length on the body of an answer is fetched, where whoever waits can. Default: 64 KiB. */
  readonly directBytes?: number;
  /** `kept`: one realm for all calls; `fresh`: a realm for each. Default: `kept`. */
  readonly state?: 'kept' | 'fresh';
}

/** Why a bundle did not come up, in its own words. The stack names positions in `bundle.js`. */
export interface StartFailure {
  readonly phase: 'parse' | 'load' | 'provide' | 'init';
  readonly name: string;
  readonly message: string;
  readonly stack: string;
}

/** Longest code cache of a bundle that crosses the channel; one that is longer stays where it is. */
export const CODE_CACHE_BYTES = 16 * 1024 * 1024;

/** Name of the bundle in stacks. */
export const BUNDLE_FILE = 'bundle.js';

/** Most bytes of a reply's body, as the queue carries them, and as a frontend fetches them; streams may be longer. */
export const REPLY_BYTES = 1024 * 1024;
export const FETCHED_BYTES = 64 * 1024 * 1024;
/** Most bytes of one log line. */
export const LOG_LINE_CHARS = 8 * 1024;
/** Most log lines at once, and in the long run, and of their JSON in the long run; more are dropped and counted. */
export const LOG_LINES_PER_TURN = 500;
export const LOG_LINES_PER_S = 1000;
export const LOG_CHARS_PER_S = 1024 * 1024;
/** Most timers, and most operations, a guest may have pending; of the operations most wait in the guest for their turn. */
export const MAX_TIMERS = 10_000;
export const MAX_OPERATIONS = 10_000;
/** Most operations of one lane, and of all lanes of a guest together, that are under way at once (guest/operations.ts). */
export const LANE_OPERATIONS = 64;
export const GUEST_OPERATIONS = 256;
/** The same of a guest that serves one call, for both: `MAX_REALMS` of them stay within `WORKER_OPERATIONS`. */
export const FRESH_OPERATIONS = 16;
/** Most operations a worker may have under way, and most bytes of them together. Its runner refuses more: a guest that keeps to the bounds above never sees that. */
export const WORKER_OPERATIONS = 1024;
export const WORKER_OPERATION_BYTES = 64 * 1024 * 1024;
/** Most realms of one worker with `state: fresh`; calls beyond them wait for one that ends. */
export const MAX_REALMS = 64;
/** Most bytes of one operation, either way: a fetch's body. */
export const OPERATION_BYTES = 8 * 1024 * 1024;
