import { LRUCache } from 'lru-cache';
import type { BundleRecord } from '../../core/bundle/manifest.ts';
import type { ClusterClock } from '../../core/clock.ts';
import { FuncatronError, toFuncatronError } from '../../core/errors.ts';
import { newId, parseId } from '../../core/id.ts';
import type { BundleState, RevisionState, Snapshot } from '../../core/wire/control.ts';
import type { CallMeta } from '../../core/wire/envelope.ts';
import type { HeldCall } from '../call.ts';
import type { Dispatch } from '../dispatch.ts';
import type { GuestOperation, GuestResult } from '../isolate/isolate.ts';
import type { Answer } from '../triggers/answer.ts';
import { CallHeader } from '../triggers/headers.ts';
import type { Forwarder } from '../triggers/forwarder.ts';
import type { LocalCalls } from '../triggers/local-calls.ts';
import { createTarget, type CallMessage } from '../triggers/targets.ts';

/** How deep funcs may call one another: a cycle ends here instead of at a deadline. */
const MAX_HOPS = 10;
/** Records of bundles called lately that this runner may not hold. */
const RECORDS = 64;
/** Attempts of the calls made here; what may run twice is run again by the broker's rules, not by ours. */
const FIRST_ATTEMPT = 1;

export interface InvokerOptions {
  readonly clock: ClusterClock;
  readonly forwarder: Forwarder;
  readonly local: LocalCalls;
  readonly maxBodyBytes: number;
  /** The newest route table. */
  snapshot(): Snapshot | undefined;
  /** What the document of a revision says. @throws NOT_FOUND, STORE_DOWN */
  record(digest: string): Promise<BundleRecord>;
  /** Where calls of a revision are run here, while they are. */
  dispatchOf(digest: string): Dispatch | undefined;
  /** The calls with this id that run here. */
  holding(id: Buffer): Iterable<HeldCall>;
}

/** Performs `context.invoke` for a func: the operation `invoke` of `GuestOperation`. */
export type Invoke = (request: GuestOperation, signal: AbortSignal) => Promise<GuestResult>;

/**
 * Calls funcs for funcs, as a frontend does: to the queue of a revision chosen by the weights, validated like a call
 * that came over the public queue, with what is left of the caller's deadline and its trace. How deep the calls are
 * nested is read from the call that asks, which this runner holds, and not believed from the guest. Where funcs that
 * wait for such calls hold up that queue here, the call goes past it.
 * @throws INVALID_REQUEST, NOT_FOUND, NO_RUNNER, LOOP_DETECTED, and every code the called func may end with
 */
export function createInvoker(options: InvokerOptions): Invoke {
  const { clock, forwarder, local, maxBodyBytes } = options;
  const records = new LRUCache<string, BundleRecord>({ max: RECORDS });

  async function recordOf(digest: string): Promise<BundleRecord> {
    const known = records.get(digest);
    if (known !== undefined) return known;
    const record = await options.record(digest);
    records.set(digest, record);
    return record;
  }

  return async function invoke({ args, bytes, callId }, signal) {
    const caller = callerOf(options, callId);
    // Read now: a call that has ended, as this one may soon, has let go of its message.
    const { deadline } = caller;
    const { hops = 0, headers: given = {} } = metaOf(caller);
    const name = `${textOf(args['bundle'], 'bundle')}.${textOf(args['operationId'], 'operationId')}`;
    if (hops >= MAX_HOPS) {
      throw new FuncatronError(
        'LOOP_DETECTED',
        `cannot invoke ${name}: funcs called one another ${hops} times already`,
      );
    }
    const revision = chooseRevision(options.snapshot(), String(args['bundle']));
    const record = await recordOf(revision.digest);
    const operationId = String(args['operationId']);
    const target = createTarget(
      record,
      { operationId },
      {
        clock,
        maxBodyBytes,
        isLocal: false,
        call(call) {
          const held = options.dispatchOf(revision.digest);
          if (held?.isHeldUp === true) return local.runNested(held, call, signal);
          return forwarder.run(revision.queue, call, signal);
        },
      },
    );
    const headers = parametersOf(args);
    headers[CallHeader.traceparent] ??= given[CallHeader.traceparent];
    const contentType = headers[`${CallHeader.headerPrefix}content-type`];
    const message: CallMessage = {
      operationId,
      id: parseId(newId()) ?? Buffer.alloc(0),
      attempt: FIRST_ATTEMPT,
      deadline,
      hops: hops + 1,
      delivery: {
        body: bytes,
        properties: { headers, ...(typeof contentType === 'string' ? { contentType } : {}) },
      },
    };
    caller.invokes++;
    const answer = await target.run(message).catch((error: unknown): Answer => ({ error: toFuncatronError(error) }));
    caller.invokes--;
    if (answer.error !== undefined) throw named(answer.error, name);
    return { result: { status: answer.status, headers: answer.headers }, bytes: answer.body };
  };
}

function callerOf(options: InvokerOptions, callId = ''): HeldCall {
  const id = parseId(callId);
  for (const call of id === undefined ? [] : options.holding(id)) if (call.state === 'running') return call;
  throw new FuncatronError('INVALID_REQUEST', 'only a call that has not ended can invoke another func', {
    data: { hint: 'await context.invoke before the func returns' },
  });
}

function metaOf({ batch, index }: HeldCall): CallMeta {
  const meta = batch.envelope.meta(index);
  return meta.length === 0 ? {} : (JSON.parse(meta.toString()) as CallMeta);
}

/** One of the live revisions, by weight. */
function chooseRevision(snapshot: Snapshot | undefined, name: string): RevisionState {
  const bundle = snapshot?.bundles.find((each) => each.name === name);
  if (bundle === undefined) throw new FuncatronError('NOT_FOUND', `there is no bundle ${JSON.stringify(name)}`);
  const live = bundle.revisions.filter(({ revision }) => weightOf(bundle, revision) > 0);
  let left = Math.random() * live.reduce((sum, { revision }) => sum + weightOf(bundle, revision), 0);
  const chosen = live.find(({ revision }) => (left -= weightOf(bundle, revision)) < 0) ?? live[0];
  if (chosen === undefined) throw new FuncatronError('NOT_FOUND', `bundle ${name} is not live`);
  if (chosen.ready === 0) throw new FuncatronError('NO_RUNNER', `no runner holds ${name}@${chosen.revision}`);
  return chosen;
}

function weightOf(bundle: BundleState, revision: string): number {
  return bundle.weights[revision] ?? 0;
}

/** The parameters as a message carries them. They come from a stranger: the validators say what they have to be. */
function parametersOf(args: GuestOperation['args']): Record<string, unknown> {
  const headers: Record<string, unknown> = {};
  add(headers, CallHeader.pathPrefix, args['params']);
  add(headers, CallHeader.queryPrefix, args['query']);
  for (const [name, value] of Object.entries(objectOf(args['headers']))) {
    const lower = name.toLowerCase();
    headers[lower === CallHeader.traceparent ? lower : `${CallHeader.headerPrefix}${lower}`] = value;
  }
  return headers;
}

function add(headers: Record<string, unknown>, prefix: string, values: unknown): void {
  for (const [name, value] of Object.entries(objectOf(values))) headers[`${prefix}${name}`] = value;
}

function objectOf(value: unknown): object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

function textOf(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new FuncatronError('INVALID_REQUEST', `cannot invoke: ${what} is no text`);
}

/** Which call failed, and the first thing that was wrong with it: a guest hears code and message only. */
function named({ code, message, data }: FuncatronError, name: string): FuncatronError {
  const [problem] = data.problems ?? [];
  const detail = problem === undefined ? '' : ` (${problem.pointer ?? ''} ${problem.message})`;
  return new FuncatronError(code, `${name}: ${message}${detail}`);
}
