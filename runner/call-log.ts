import { formatId } from '../core/id.ts';
import type { Envelope, FailedReply } from '../core/wire/envelope.ts';
import type { HeldCall } from './call.ts';
import type { WorkerEvents } from './isolate/isolate.ts';
import { LineBudget } from './line-budget.ts';

/** Many calls fail at once when a worker dies: the first of them say what the others would. */
const LINES_PER_SECOND = 50;
const MAX_MESSAGE_CHARS = 2_000;

/** Says in a bundle's own log how calls ended of which its funcs could not say it. */
export class CallLog {
  /** By operation index. */
  readonly #operations: readonly string[];
  readonly #onLog: WorkerEvents['onLog'];
  readonly #budget = new LineBudget(LINES_PER_SECOND);

  constructor(operations: readonly string[], onLog: WorkerEvents['onLog']) {
    this.#operations = operations;
    this.#onLog = onLog;
  }

  /** The call ended with `code`; the message may say more than its caller hears. */
  ended(call: HeldCall, code: string, message: string): void {
    if (!this.#budget.take()) return;
    const dropped = this.#budget.takeDropped();
    const { batch, index } = call;
    const operationId = this.#operations[batch.envelope.operation(index)];
    this.#onLog({
      time: Date.now(),
      level: 'error',
      message: `call ended with ${code}: ${message}`.slice(0, MAX_MESSAGE_CHARS),
      ...(operationId === undefined ? {} : { operationId }),
      callId: formatId(call.id, 0),
      ...(dropped > 0 ? { dropped } : {}),
    });
  }

  /** The worker itself refused what the func returned. What a func threw it has said already, with its stack. */
  refused(call: HeldCall, envelope: Envelope, index: number): void {
    const { code, message } = readFailure(envelope.body(index));
    if (code !== 'FUNC_ERROR') this.ended(call, code, message);
  }
}

/** The body comes from a stranger; the edge checks it again. */
function readFailure(body: Buffer): Pick<FailedReply, 'code' | 'message'> {
  try {
    const { code, message } = JSON.parse(body.toString()) as Record<string, unknown>;
    if (typeof code === 'string' && typeof message === 'string') return { code, message };
  } catch {
    // Not JSON: said below.
  }
  return { code: 'INVALID_RESPONSE', message: 'the worker sent an error that cannot be read' };
}
