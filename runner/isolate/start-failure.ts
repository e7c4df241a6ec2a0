import { FuncatronError, type Problem } from '../../core/errors.ts';
import type { WorkerSpec } from './isolate.ts';
import type { MapPositions } from './source-position.ts';

const MAX_CHARS = 4_000;

/** DEPLOY_FAILED in the func's own words: from a `failed` frame, or from whatever else kept the worker from starting. */
export function startError(spec: WorkerSpec, cause: unknown, mapPositions?: MapPositions): FuncatronError {
  if (cause instanceof FuncatronError && cause.code === 'DEPLOY_FAILED') return cause;
  const what = `bundle ${spec.bundle}, revision ${spec.revision}`;
  if (Buffer.isBuffer(cause)) return failedIn(what, cause, mapPositions ?? ((stack) => stack));
  return new FuncatronError('DEPLOY_FAILED', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
}

const WHERE: Readonly<Record<string, string>> = {
  parse: 'cannot be parsed',
  load: 'cannot be loaded',
  provide: 'failed in its providers',
  init: 'failed in init',
};

function failedIn(what: string, frame: Buffer, mapPositions: MapPositions): FuncatronError {
  const failure = JSON.parse(frame.toString()) as Record<string, unknown>;
  const text = `${String(failure['name'])}: ${String(failure['message'])}`.slice(0, MAX_CHARS);
  const stack = mapPositions(String(failure['stack']).slice(0, MAX_CHARS));
  const position = /(?:^|[(\s])([^\s()]+):(\d+):(\d+)/.exec(stack);
  const message = `${what} ${WHERE[String(failure['phase'])] ?? 'failed'}: ${text}`;
  if (position === null) return new FuncatronError('DEPLOY_FAILED', message);
  const [, file = '', line, column] = position;
  const problem: Problem = { message: text, file, line: Number(line), column: Number(column) };
  return new FuncatronError('DEPLOY_FAILED', `${message} (${file}:${line}:${column})`, {
    data: { problems: [problem] },
  });
}
