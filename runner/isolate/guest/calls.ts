import { type BundleProvider, readProviders } from '../../../core/bundle/providers.ts';
import { CallFlag } from '../../../core/wire/envelope.ts';
import type { BundleFunction, LoadSpec, StartFailure } from '../bridge.ts';
import { Out } from '../bridge.ts';
import { AbortController } from './abort.ts';
import { CallLog } from './call-log.ts';
import { CallContext, type ContextSource, Home, InitContext } from './context.ts';
import { DOMException } from './dom-exception.ts';
import { CallEvent, type CallSource, idText } from './event.ts';
import { errorOf } from './inspect.ts';
import { reportThrown, reportUncaught, setLogLevel, setRunning } from './log.ts';
import { isBusy } from './operations.ts';
import { type Finished, putNote, putReply } from './outbox.ts';
import { isThenable } from './provided-func.ts';
import { provide, type Provided, unknownService } from './providers.ts';
import { isSuccess, toFailure, toFinished } from './reply.ts';
import type { Scope } from './scope.ts';
import { isBuiltIn } from './services.ts';
import { received } from './shared.ts';

/** The bundle: how it is loaded, and how its funcs are called. */

type Handler = (event: CallEvent, context: CallContext) => unknown;
type LifecycleHandler = (context: InitContext) => unknown;

interface Operation {
  readonly operationId: string;
  readonly handler: Handler;
}

/** A call in flight. */
class Call implements CallSource, ContextSource {
  readonly slot: number;
  readonly operationId: string;
  readonly home: Home;
  readonly flags: number;
  readonly attempt: number;
  readonly deadline: number;
  readonly meta: string;
  readonly text: string | undefined;
  readonly bytes: Uint8Array | undefined;
  controller: AbortController | undefined;
  log: CallLog | undefined;
  scope: Scope | undefined;
  isEnded = false;
  readonly #id0: number;
  readonly #id1: number;
  readonly #id2: number;
  readonly #id3: number;

  constructor(
    slot: number,
    operationId: string,
    owner: Home,
    flags: number,
    attempt: number,
    id0: number,
    id1: number,
    id2: number,
    id3: number,
    deadline: number,
    meta: string,
    text: string | undefined,
    bytes: Uint8Array | undefined,
  ) {
    this.slot = slot;
    this.operationId = operationId;
    this.home = owner;
    this.flags = flags;
    this.attempt = attempt;
    this.#id0 = id0;
    this.#id1 = id1;
    this.#id2 = id2;
    this.#id3 = id3;
    this.deadline = deadline;
    this.meta = meta;
    this.text = text;
    this.bytes = bytes;
    this.controller = undefined;
    this.log = undefined;
    this.scope = undefined;
  }

  get id(): string {
    return idText(this.#id0, this.#id1, this.#id2, this.#id3);
  }
}

const { apply } = Reflect;
const { stringify } = JSON;
const { hasOwn } = Object;
const inFlight: (Call | undefined)[] = [];
const operations: Operation[] = [];
let spec: LoadSpec | undefined;
let home: Home | undefined;
let initContext: InitContext | undefined;
let evaluated: { readonly exports: unknown; readonly providers: readonly BundleProvider[] } = {
  exports: {},
  providers: [],
};
let provided: Provided | undefined;
let init: LifecycleHandler | undefined;
let destroy: LifecycleHandler | undefined;

/** Remembers what the worker runs. */
export function configure(loaded: LoadSpec): void {
  spec = loaded;
  setLogLevel(loaded.logLevel);
  home = new Home(loaded);
  initContext = new InitContext(home);
}

function describeStart(phase: StartFailure['phase'], thrown: unknown): string {
  const { name, message, stack } = errorOf(thrown);
  return stringify({ phase, name, message, stack } satisfies StartFailure);
}

function refuseRequire(name: unknown): never {
  const error = new Error(
    `cannot require ${stringify(name)}: an isolate has no modules; funcatron pack inlines npm packages, and Node's own are not there`,
  );
  throw Object.assign(error, { code: 'MODULE_NOT_FOUND' });
}

/** See `Guest.evaluate`. */
export function evaluate(bundle: BundleFunction): string {
  const module: { exports: unknown } = { exports: {} };
  try {
    apply(bundle, module.exports, [module, module.exports, refuseRequire]);
    const { exports } = module;
    init = exported(exports, 'init');
    destroy = exported(exports, 'destroy');
    evaluated = { exports, providers: readProviders(exports) };
    if (evaluated.providers.length > 0) return '';
    for (const [name, { type }] of Object.entries(spec?.services ?? {})) {
      if (!isBuiltIn(type)) throw unknownService(name, type);
    }
    for (const { operationId, handler } of spec?.operations ?? []) {
      const found: Handler | undefined = exported(exports, handler);
      if (found === undefined)
        throw new Error(`the bundle does not export ${handler}, the func of operation ${operationId}`);
      operations.push({ operationId, handler: found });
    }
    return '';
  } catch (thrown) {
    return describeStart('load', thrown);
  }
}

function exported(exports: unknown, name: string): ((...args: unknown[]) => unknown) | undefined {
  if ((typeof exports !== 'object' && typeof exports !== 'function') || exports === null) return undefined;
  if (!hasOwn(exports, name)) return undefined;
  const value = (exports as Record<string, unknown>)[name];
  return typeof value === 'function' ? (value as (...args: unknown[]) => unknown) : undefined;
}

/** See `Guest.init`. */
export async function start(): Promise<void> {
  let failure = '';
  let phase: StartFailure['phase'] = 'provide';
  try {
    await setProvided();
    phase = 'init';
    if (init !== undefined) await apply(init, undefined, [initContext]);
  } catch (thrown) {
    failure = describeStart(phase, thrown);
  }
  putNote(Out.started, 0, failure);
}

/** Has the bundle's providers make its funcs, where it has any. */
async function setProvided(): Promise<void> {
  const { exports, providers } = evaluated;
  if (providers.length === 0 || spec === undefined || home === undefined) return;
  provided = await provide({ providers, spec, home, exported: (name) => exported(exports, name) });
  for (const [index, handler] of provided.handlers.entries()) {
    operations.push({ operationId: spec.operations[index]?.operationId ?? '', handler });
  }
}

/** See `Guest.destroy`. */
export async function stop(): Promise<void> {
  try {
    if (destroy !== undefined) await apply(destroy, undefined, [initContext]);
  } catch (thrown) {
    reportUncaught('destroy', thrown);
  }
  try {
    await provided?.endLife();
  } catch (thrown) {
    reportUncaught('endLife', thrown);
  }
  putNote(Out.stopped, 0, '');
}

/** See `Guest.enter`. */
export function enter(
  slot: number,
  index: number,
  flags: number,
  attempt: number,
  id0: number,
  id1: number,
  id2: number,
  id3: number,
  deadline: number,
  meta: string,
  text: string | undefined,
): number {
  const bytes = received();
  const operation = operations[index];
  if (operation === undefined || home === undefined) {
    putReply(toFailure(slot, 'INVALID_RESPONSE', `this revision has no operation number ${index}`));
    return 1;
  }
  const { operationId, handler } = operation;
  const call = new Call(slot, operationId, home, flags, attempt, id0, id1, id2, id3, deadline, meta, text, bytes);
  if ((flags & CallFlag.log) !== 0) call.log = new CallLog(meta);
  inFlight[slot] = call;
  setRunning(call);
  try {
    const result = handler(new CallEvent(call), new CallContext(call));
    if (isThenable(result)) {
      void settle(call, result);
      return 0;
    }
    return finish(call, result);
  } catch (thrown) {
    return fail(call, thrown);
  } finally {
    setRunning(undefined);
  }
}

async function settle(call: Call, result: PromiseLike<unknown>): Promise<void> {
  try {
    finish(call, await result);
  } catch (thrown) {
    fail(call, thrown);
  }
}

/** The func has returned. 1 when its answer is there, 0 when that waits for a commit: what `enter` returns. */
function finish(call: Call, value: unknown): number {
  return end(call, toFinished(call.slot, call.operationId, value));
}

/** The func threw. */
function fail(call: Call, thrown: unknown): number {
  const { slot, operationId } = call;
  reportThrown(`func ${operationId} threw`, thrown, call);
  const code = isBusy(thrown) ? 'SERVICE_BUSY' : 'FUNC_ERROR';
  const { name, message } = errorOf(thrown);
  const why = code === 'SERVICE_BUSY' ? message : name.slice(0, 100);
  return end(call, toFailure(slot, code, `func ${operationId} threw (${why})`));
}

function end(call: Call, answer: Finished): number {
  call.isEnded = true;
  if (call.scope !== undefined) {
    void release(call, call.scope, answer);
    return 0;
  }
  inFlight[call.slot] = undefined;
  putReply(call.log?.addTo(answer) ?? answer);
  return 1;
}

/** Gives back what the call has taken, and answers it: as its func said, or with COMMIT_FAILED. */
async function release(call: Call, scope: Scope, answer: Finished): Promise<void> {
  const { slot, operationId } = call;
  let given = answer;
  try {
    await scope.release(isSuccess(answer));
  } catch (thrown) {
    reportThrown(`what func ${operationId} did could not be committed`, thrown, call);
    const message = `what func ${operationId} did could not be committed, and was rolled back`;
    if (isSuccess(answer)) given = toFailure(slot, 'COMMIT_FAILED', message);
  }
  inFlight[slot] = undefined;
  putReply(call.log?.addTo(given) ?? given);
}

/** See `Guest.abort`. */
export function abort(slot: number, why: number): void {
  const call = inFlight[slot];
  if (call === undefined) return;
  call.controller ??= new AbortController();
  call.controller.abort(
    why === 0
      ? new DOMException('nobody waits for this call any more', 'AbortError')
      : new DOMException('the deadline of this call has passed', 'TimeoutError'),
  );
}
