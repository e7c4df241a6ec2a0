import type { IncomingMessage, ServerResponse } from 'node:http';
import { asksForLog, takeLogWish, type CallLogWish } from './call-log.ts';
import { HttpCall } from './http-call.ts';
import type { HttpCallContext } from './http-call-context.ts';
import type { OperatorCheck } from './operator-check.ts';

/** What the pipeline needs of its frontend. */
export interface PipelineContext extends HttpCallContext {
  readonly operators: OperatorCheck;
}

const CALL = Symbol('call');
type CallResponse = ServerResponse & { [CALL]?: HttpCall };

/** Takes a request that belongs to some bundle, or to none. It gets exactly one answer, unless its connection ends first. */
export function handleCall(context: PipelineContext, req: IncomingMessage, res: ServerResponse): void {
  if (asksForLog(req)) void startLogged(context, req, res);
  else start(context, req, res, undefined);
}

/** Who asks for a log of its call waits for its token to be looked at; everybody else waits for nothing. */
async function startLogged(context: PipelineContext, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const log = await takeLogWish(context.operators, req);
  if (!res.destroyed) start(context, req, res, log);
}

function start(
  context: PipelineContext,
  req: IncomingMessage,
  res: ServerResponse,
  log: CallLogWish | undefined,
): void {
  const call = new HttpCall(context, req, res, log);
  (res as CallResponse)[CALL] = call;
  res.on('close', onClose);
  try {
    call.start();
  } catch (error) {
    call.onDefect(error);
  }
}

function onClose(this: CallResponse): void {
  this[CALL]?.onClose();
}
