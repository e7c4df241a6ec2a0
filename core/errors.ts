/** One row of the error table. */
interface ErrorRow {
  readonly status: number;
  /** Whether sending the same call again can help without anybody changing anything. */
  readonly retryable: boolean;
  /** Whether the func may have run: a client reads here whether a retry is safe. */
  readonly mayHaveRun: boolean;
  readonly meaning: string;
}

/**
 * Every error a caller can see, in one table. `docs/errors.md` is generated from it, and every code
 * is produced by a test.
 */
export const ERRORS = {
  INVALID_REQUEST: {
    status: 400,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the request does not match the operation; every violation is listed',
  },
  UNAUTHENTICATED: { status: 401, retryable: false, mayHaveRun: false, meaning: 'no valid token was sent' },
  FORBIDDEN: { status: 403, retryable: false, mayHaveRun: false, meaning: 'the token does not allow this' },
  NO_ROUTE: { status: 404, retryable: false, mayHaveRun: false, meaning: 'no live bundle answers this host and path' },
  NOT_FOUND: {
    status: 404,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the named bundle, revision or operation does not exist',
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the path exists, this method does not; see Allow',
  },
  DEPLOY_IN_PROGRESS: {
    status: 409,
    retryable: true,
    mayHaveRun: false,
    meaning: 'another deploy of this bundle is under way',
  },
  ROUTE_CONFLICT: {
    status: 409,
    retryable: false,
    mayHaveRun: false,
    meaning: 'another bundle already answers this host, path and method',
  },
  DIGEST_MISMATCH: {
    status: 409,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the content is not what its digest says',
  },
  PAYLOAD_TOO_LARGE: {
    status: 413,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the body is longer than the operation takes, the queue carries (1 MiB) or the upload limit allows',
  },
  UNSUPPORTED_MEDIA_TYPE: {
    status: 415,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the operation does not take this content type',
  },
  INVALID_BUNDLE: {
    status: 422,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the bundle was refused; every problem is listed',
  },
  DEPLOY_FAILED: {
    status: 422,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the revision did not come up; the one before goes on serving',
  },
  HEADERS_TOO_LARGE: {
    status: 431,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the headers are longer than 32 KiB',
  },
  FUNC_ERROR: { status: 500, retryable: false, mayHaveRun: true, meaning: 'the func threw' },
  COMMIT_FAILED: {
    status: 500,
    retryable: false,
    mayHaveRun: true,
    meaning: 'the func ended well, but what it did in a service could not be committed',
  },
  INTERNAL: { status: 500, retryable: false, mayHaveRun: true, meaning: 'a defect in funcatron itself' },
  FUNC_CRASHED: { status: 502, retryable: false, mayHaveRun: true, meaning: 'the worker died while it ran the func' },
  RUNNER_LOST: { status: 502, retryable: false, mayHaveRun: true, meaning: 'the runner died while it held the call' },
  RUNNER_UNREACHABLE: {
    status: 502,
    retryable: true,
    mayHaveRun: false,
    meaning: 'the frontend cannot reach the runner that took the call, to bring it the body',
  },
  OUTCOME_UNKNOWN: {
    status: 502,
    retryable: false,
    mayHaveRun: true,
    meaning: 'the broker lost the call or its reply',
  },
  INVALID_RESPONSE: {
    status: 502,
    retryable: false,
    mayHaveRun: true,
    meaning: 'the func answered something that cannot be sent or does not match the document',
  },
  RESPONSE_TOO_LARGE: {
    status: 502,
    retryable: false,
    mayHaveRun: true,
    meaning: 'the reply is longer than its caller takes in one piece: 1 MiB over the queue, 64 MiB over HTTP',
  },
  LOOP_DETECTED: {
    status: 508,
    retryable: false,
    mayHaveRun: false,
    meaning: 'funcs called one another more than 10 deep',
  },
  NO_RUNNER: { status: 503, retryable: true, mayHaveRun: false, meaning: 'no runner holds this bundle' },
  OVERLOADED: { status: 503, retryable: true, mayHaveRun: false, meaning: 'every slot is taken and the queue is full' },
  BROKER_DOWN: { status: 503, retryable: true, mayHaveRun: false, meaning: 'the message broker cannot be reached' },
  STORE_DOWN: { status: 503, retryable: true, mayHaveRun: false, meaning: 'the store cannot be reached' },
  NO_LEADER: { status: 503, retryable: true, mayHaveRun: false, meaning: 'no tron leads at the moment' },
  TRON_DOWN: {
    status: 503,
    retryable: true,
    mayHaveRun: true,
    meaning: 'the management API cannot be reached',
  },
  SERVICE_BUSY: {
    status: 503,
    retryable: true,
    mayHaveRun: true,
    meaning: 'a service the func uses has no free connection',
  },
  SHUTTING_DOWN: { status: 503, retryable: true, mayHaveRun: false, meaning: 'this process is draining' },
  TIMEOUT: { status: 504, retryable: false, mayHaveRun: true, meaning: 'no answer before the deadline' },
  INVALID_CONFIG: {
    status: 500,
    retryable: false,
    mayHaveRun: false,
    meaning: 'a flag or environment variable has a bad value; all are listed',
  },
  WEAK_ISOLATION: {
    status: 500,
    retryable: false,
    mayHaveRun: false,
    meaning: 'the isolate cannot keep its promises on this machine',
  },
} as const satisfies Record<string, ErrorRow>;

/** A code of the error table. */
export type ErrorCode = keyof typeof ERRORS;

/** One thing that is wrong with a document, a bundle, a request or the configuration. */
export interface Problem {
  readonly message: string;
  /** RFC 6901 pointer into the document, or `/path/id`, `/query/page`, `/body/name` for a request. */
  readonly pointer?: string;
  /** File inside the bundle, with 1-based line and column where they are known. */
  readonly file?: string;
  readonly line?: number;
  readonly column?: number;
  /** What to do next, as a sentence. */
  readonly hint?: string;
}

/** What an error may carry beyond its code and message; this crosses the wire, so no secrets and no stacks. */
export interface ErrorData {
  readonly problems?: readonly Problem[];
  /** Seconds a client should wait, sent as `Retry-After`. */
  readonly retryAfterS?: number;
  /** Methods for `Allow`. */
  readonly allow?: readonly string[];
  /** What to do next, as a sentence. */
  readonly hint?: string;
  readonly [key: string]: unknown;
}

/** The one error type: only `{code, message, status, data}` of it ever crosses the wire. */
export class FuncatronError extends Error {
  override readonly name = 'FuncatronError';
  readonly code: ErrorCode;
  readonly data: ErrorData;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; data?: ErrorData } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = options.data ?? {};
  }

  get status(): number {
    return ERRORS[this.code].status;
  }
}

/** Whether a string from the wire names a row of the table. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value);
}

/** Turns anything thrown into a `FuncatronError`; what is not one becomes `INTERNAL` and keeps its cause. */
export function toFuncatronError(thrown: unknown, code: ErrorCode = 'INTERNAL'): FuncatronError {
  if (thrown instanceof FuncatronError) return thrown;
  return new FuncatronError(code, thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
}

/** The content type of every error body. RFC 9457. */
export const PROBLEM_CONTENT_TYPE = 'application/problem+json';

/**
 * The RFC 9457 body of an error.
 * @example { type: 'urn:funcatron:error:TIMEOUT', title: 'no answer before the deadline', status: 504,
 *   code: 'TIMEOUT', detail: '…', callId: '0193…', problems: [] }
 */
export function toProblem(
  error: Pick<FuncatronError, 'code' | 'message' | 'data'>,
  callId?: string,
): Record<string, unknown> {
  const row = ERRORS[error.code];
  const { retryAfterS, allow: _allow, ...data } = error.data;
  return {
    // First: data may come from a guest, and must not pass for the rest.
    ...data,
    type: `urn:funcatron:error:${error.code}`,
    title: row.meaning,
    status: row.status,
    code: error.code,
    detail: error.message,
    ...(callId === undefined ? {} : { callId }),
    ...(retryAfterS === undefined ? {} : { retryAfterS }),
  };
}
