import { CallFlag } from '../../../core/wire/envelope.ts';
import { Cell, FETCHED_BYTES, REPLY_BYTES } from '../bridge.ts';
import { AbortController } from './abort.ts';
import { operationAt } from './bundle.ts';
import { CallLog } from './call-log.ts';
import { CallContext, type ContextSource, type Home } from './context.ts';
import { DOMException } from './dom-exception.ts';
import { CallEvent, type CallSource, idText } from './event.ts';
import { beginStream } from './first-piece.ts';
import { Incoming } from './incoming.ts';
import { errorOf } from './inspect.ts';
import { reportThrown, setRunning } from './log.ts';
import { codeOf } from './operations.ts';
import { type Finished, putReply } from './outbox.ts';
import { discardStream, gatherStream, sendStream, type Stream } from './outgoing.ts';
import { isThenable } from './provided-func.ts';
import { fromResponse, isResponse, isSuccess, toFailure, toFinished } from './reply.ts';
import type { Scope } from './scope.ts';
import { cells, received } from './shared.ts';

const dateNow = Date.now;

/** How the bundle's funcs are called. */

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
  incoming: Incoming | undefined;
  isEnded = false;
  isStreaming = false;
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
    this.incoming = undefined;
  }

  get isAborted(): boolean {
    return this.controller?.signal.aborted === true;
  }

  get id(): string {
    return idText(this.#id0, this.#id1, this.#id2, this.#id3);
  }
}

const inFlight: (Call | undefined)[] = [];
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
  const operation = operationAt(index);
  if (operation === undefined) {
    putReply(toFailure(slot, 'INVALID_RESPONSE', `this revision has no operation number ${index}`));
    return 1;
  }
  const { operationId, handler, home } = operation;
  const call = new Call(slot, operationId, home, flags, attempt, id0, id1, id2, id3, deadline, meta, text, bytes);
  if ((flags & CallFlag.log) !== 0) call.log = new CallLog(meta);
  const stream = cells[Cell.stream] ?? 0;
  if (stream !== 0) call.incoming = new Incoming(stream);
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
  if (isResponse(value)) {
    void settle(call, fromResponse(value));
    return 0;
  }
  const canFetch = (call.flags & CallFlag.fetches) !== 0;
  const answer = toFinished(call.slot, call.operationId, value, canFetch ? FETCHED_BYTES : REPLY_BYTES);
  if (answer.body === undefined) return end(call, answer);
  call.isStreaming = true;
  if (canFetch) void begin(call, answer, answer.body);
  else void gather(call, answer, answer.body);
  return 0;
}

/** The body of the answer has a first piece, and then the call its answer. */
async function begin(call: Call, answer: Finished, body: Stream): Promise<void> {
  try {
    end(call, { ...answer, body: await beginStream(body) });
  } catch (thrown) {
    fail(call, thrown);
  }
}

/** Whoever waits for this call takes its body in one piece. */
async function gather(call: Call, answer: Finished, body: Stream): Promise<void> {
  const { slot, operationId } = call;
  try {
    const bytes = await gatherStream(body, REPLY_BYTES, () => call.controller?.signal.throwIfAborted());
    if (bytes !== undefined) end(call, { ...answer, body: undefined, bytes });
    else end(call, toFailure(slot, 'RESPONSE_TOO_LARGE', `func ${operationId} made more than ${REPLY_BYTES} bytes`));
  } catch (thrown) {
    fail(call, thrown);
  }
}

/** Hands the answer over. Its body begins to be made now: before, it could still have become another answer. */
function put(call: Call, answer: Finished): void {
  inFlight[call.slot] = undefined;
  const whole = call.log?.addTo(answer) ?? answer;
  if (whole.body === undefined) return putReply(whole);
  const onFailure = (thrown: unknown): void =>
    reportThrown(`the body that func ${call.operationId} answered with threw`, thrown, call);
  try {
    const onOver = (): void => {
      call.isStreaming = false;
    };
    const stream = sendStream(whole.body, { onFailure, onStopped: () => abortCall(call, 0), onOver });
    putReply({ ...whole, body: undefined, stream });
  } catch (thrown) {
    onFailure(thrown);
    putReply(toFailure(call.slot, 'FUNC_ERROR', `the body that func ${call.operationId} answered with cannot be read`));
  }
}

/** The func threw. */
function fail(call: Call, thrown: unknown): number {
  const { slot, operationId } = call;
  reportThrown(`func ${operationId} threw`, thrown, call);
  // What it throws because its signal aborted is the deadline's doing.
  const code = call.isAborted ? 'TIMEOUT' : codeOf(thrown);
  const { name, message } = errorOf(thrown);
  const isOwn = code === 'FUNC_ERROR' || code === 'TIMEOUT';
  const why = isOwn ? name.slice(0, 100) : message.slice(0, 200);
  return end(call, toFailure(slot, code, `func ${operationId} threw (${why})`));
}

function end(call: Call, answer: Finished): number {
  call.isEnded = true;
  call.isStreaming = answer.body !== undefined;
  if (call.scope !== undefined) {
    void release(call, call.scope, answer);
    return 0;
  }
  put(call, answer);
  return 1;
}

/** Gives back what the call has taken, and answers it: as its func said, with COMMIT_FAILED, or TIMEOUT after it was undone. */
async function release(call: Call, scope: Scope, answer: Finished): Promise<void> {
  const { slot, operationId } = call;
  let given = answer;
  try {
    if (!scope.isReleased) await scope.release(isSuccess(answer));
    else if (isSuccess(answer))
      given = toFailure(slot, 'TIMEOUT', `func ${operationId} was aborted, and what it did undone`);
  } catch (thrown) {
    reportThrown(`what func ${operationId} did could not be committed`, thrown, call);
    const message = `what func ${operationId} did could not be committed, and was rolled back`;
    if (isSuccess(answer)) given = toFailure(slot, 'COMMIT_FAILED', message);
  }
  if (given !== answer && answer.body !== undefined) {
    discardStream(answer.body).catch((thrown: unknown) => {
      reportThrown(`the body that func ${operationId} answered with threw`, thrown, call);
    });
  }
  put(call, given);
}

/** See `Guest.abort`. What the call has taken is undone at once: its func may never end. */
export function abort(slot: number, why: number): void {
  const call = inFlight[slot];
  if (call !== undefined) abortCall(call, why);
}

function abortCall(call: Call, why: number): void {
  call.controller ??= new AbortController();
  call.controller.abort(
    // Whoever called may give up at the deadline before its runner has seen that it has passed.
    why === 0 && dateNow() < call.deadline
      ? new DOMException('nobody waits for this call any more', 'AbortError')
      : new DOMException('the deadline of this call has passed', 'TimeoutError'),
  );
  call.scope?.release(false).catch((thrown: unknown) => {
    reportThrown(`what func ${call.operationId} did could not be rolled back`, thrown, call);
  });
}
