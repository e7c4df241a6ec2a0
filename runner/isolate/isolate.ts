import type { Isolation, Manifest, Runtime } from '../../core/bundle/manifest.ts';
import type { Closable } from '../../core/lifecycle.ts';
import type { LogLine } from '../../core/wire/control.ts';

/**
 * The isolate interface: where funcs run. One implementation for each isolation of `js` bundles, and one for each other
 * runtime: the table in `kinds.ts`. Every one passes the same contract suite, every isolate of `js` the same escape
 * suite. No guest ever runs in the runner's own process.
 */
export interface IsolateKind extends Partial<Closable> {
  readonly name: Isolation | Runtime;
  /**
   * Starts a worker, loads the bundle and runs its `init`. Settles when the first call can be sent.
   * @throws DEPLOY_FAILED with the func's own error (message, and position in the author's source where known) when
   *   loading or `init` fails, takes longer than `startTimeoutMs`, or the process dies;
   *   WEAK_ISOLATION when this machine cannot keep the isolate's promises
   */
  start(spec: WorkerSpec, events: WorkerEvents): Promise<Worker>;
}

/** What a worker runs. */
export interface WorkerSpec {
  readonly bundle: string;
  readonly revision: string;
  /** Text of `bundle.js`: CommonJS, npm packages inlined; empty for a runtime that runs programs. */
  readonly source: string;
  /** V8's code cache of `source`, as `onCodeCache` gave it for the same revision before. */
  readonly codeCache?: Buffer;
  /** The unpacked bundle on this machine, for runtimes that run programs; read-only to them. */
  readonly folder?: string;
  /** `x-funcatron.entry`: a file of `folder`, or a command line that runs in it. */
  readonly entry?: string;
  /** `bundle.js.map`, deflated, for positions in errors. */
  readonly sourceMap?: Buffer;
  /** By operation index. */
  readonly operations: readonly WorkerOperation[];
  readonly config: Readonly<Record<string, unknown>>;
  /** Names under `context.services`, with their types. */
  readonly services: Readonly<Record<string, { readonly type: string }>>;
  readonly memoryMb: number;
  readonly concurrency: number;
  readonly stackTraces: boolean;
  /** Values of the secrets the manifest names. Never logged. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** From this length on the body of an answer is fetched, where whoever waits can; default: 64 KiB. */
  readonly directBytes?: number;
  readonly state?: Manifest['state'];
  readonly logLevel?: Manifest['logLevel'];
  readonly idleTimeoutS?: number;
  /** Of a `node` bundle; default: none. */
  readonly permissions?: Manifest['permissions'] | undefined;
  readonly startTimeoutMs: number;
}

export interface WorkerOperation {
  readonly operationId: string;
  readonly handler: string;
  /** Its func reads the body piece by piece. */
  readonly isDirect?: boolean;
  /** For providers of the bundle. */
  readonly method?: string;
  /** Template: `/orders/{id}`. */
  readonly path?: string;
}

/** What a worker tells its owner. Called from the channel's read loop: must not throw and must not block. */
export interface WorkerEvents {
  /**
   * Answers, as an envelope of replies, all to calls that were sent with this tag: ready to be passed on unopened.
   * Coalesced per turn, independent of how the calls came. The buffer is the receiver's; it comes from a stranger, so
   * check it before use. A receiver that throws gets the worker killed.
   */
  onReplies(tag: number, envelope: Buffer): void;
  /** A line of `console` or `context.log`; bundle, revision and runner are for the owner to add. */
  onLog(line: Omit<LogLine, 'bundle' | 'revision' | 'runner'>): void;
  /** Something the guest asks its runner to do for it. The result crosses back; a rejection becomes the guest's error `{code, message}`. */
  onOperation(request: GuestOperation, signal: AbortSignal): Promise<GuestResult>;
  /** What V8 made of `source`, to be given to the next worker of the revision. Comes from a stranger: for the same revision only. */
  onCodeCache?(cache: Buffer): void;
  /**
   * A part of the body of an answer, or credit for one of a call (`FrameKind.stream…`). The payload begins with the id of
   * the call; it comes from a stranger. A receiver that throws gets the worker killed.
   */
  onStream?(kind: number, payload: Buffer): void;
  /** The worker is gone, once, for whatever reason; calls it still held will never be answered by it. Not told of one whose `start` rejects. */
  onExit(exit: WorkerExit): void;
}

/**
 * What a guest asks of its runner: JSON arguments, and bytes beside them. The arguments come from a stranger.
 *
 * | name | args | result |
 * | --- | --- | --- |
 * | `kv.get` | `{service, key}` | `{value?: string}`: the JSON text that was set, absent when there is none |
 * | `kv.set` | `{service, key, value: string, ttlMs?}` | `{}` |
 * | `kv.delete` | `{service, key}` | `{deleted: boolean}` |
 * | `kv.increment` | `{service, key, by, ttlMs?}` | `{value: number}` |
 * | `invoke` | `{bundle, operationId, params?, query?, headers?}`, bytes: the body; needs `callId` | `{status, headers}`, bytes: the body |
 * | `postgres.query` | `{service, sql, parameters, deadline?}` | `{fields: [{name, type: OID}], rows: (string \| null)[][], rowCount}` |
 * | `redis.command` | `{service, words: string[], deadline?}` | `{value}` |
 * | `http.fetch` | `{service, url: a path, method, headers, redirect, deadline?}`, bytes: the body | as `fetch` |
 * | `amqp.publish` | `{service, exchange, key, options, deadline?}`, bytes: the body | `{}` |
 * | `scope.end` | `{}`; needs `callId` | `{}`: what the call has taken is committed |
 * | `fetch` | `{url, method, headers: [name, value][], redirect: 'follow' \| 'manual' \| 'error'}`, bytes: the body | `{url, status, statusText, headers: [name, value][], redirected}`, bytes: the body, ≤ 8 MiB |
 */
export interface GuestOperation {
  readonly name: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly bytes: Buffer;
  /** The call it is for, as the guest says; absent outside of one (`init`, a timer). */
  readonly callId?: string;
}
export interface GuestResult {
  readonly result: Readonly<Record<string, unknown>>;
  readonly bytes?: Buffer;
}

export interface WorkerExit {
  /** `closed` it was asked to; `killed` by `kill`; `memory` it ran out of memory; `crashed` anything else. */
  readonly reason: 'closed' | 'killed' | 'memory' | 'crashed';
  readonly detail: string;
  /** Of a worker that shared its process: whether another one ended that process, or nobody knows which; absent: it did so itself. */
  readonly culprit?: 'another' | 'unknown';
}

/** One running instance of a bundle. */
export interface Worker extends Closable {
  readonly id: string;
  readonly pid: number;
  /**
   * Hands over calls: an envelope of calls, unopened. Every call is answered exactly once through `onReplies` with
   * the same tag, unless the worker exits first. A call whose deadline has passed is answered TIMEOUT and not started.
   * `clockOffsetMs` (this runner's clock minus the frontend's) is taken off before deadlines are compared.
   * The buffer must not change afterwards.
   */
  send(tag: number, envelope: Buffer, clockOffsetMs: number): void;
  /** A part of the body of a call that came with `CallFlag.direct`, or credit for that of an answer. Unknown calls are ignored. The data is the worker's. */
  stream(kind: number, callId: Buffer, data?: Buffer): void;
  /** Aborts `context.signal` of these calls (16-byte ids, back to back); unknown ids are ignored. The calls still answer. */
  cancel(ids: Buffer): void;
  /** Settles when the guest's event loop answers; rejects when the worker exits first. */
  ping(): Promise<void>;
  /** Bytes waiting to be written to the worker. */
  readonly backlogBytes: number;
  /** Runs `destroy`, then ends the process; kills it after 2 s. Calls in flight are lost: drain first. */
  close(): Promise<void>;
  /** SIGKILL, now. `onExit` follows. */
  kill(): void;
}
