import { setImmediate } from 'node:timers/promises';
import type { Problem } from '../errors.ts';
import { createSchemaCompiler, type SchemaCompiler } from './ajv.ts';
import type { Api, ApiOperation } from './api.ts';
import type { Bag } from './bag.ts';
import { type BodyCheck, type BodyCompilers, CONTENT_TYPE_POINTER, createBodyCheck } from './body.ts';
import { type ContentType, matchMedia, parseContentType } from './media.ts';
import { createParametersReader, type ParameterSource } from './parameters.ts';
import { createResponseCheck, type ResponseCheck } from './response.ts';
import { pointerTo } from './json.ts';
import { definitionsOf } from './schema.ts';

/** What `read` needs of a request. Nothing of it is kept or changed. */
export interface ReadRequest extends ParameterSource {
  /** As received; `undefined` or empty where there is none. */
  readonly body: Buffer | undefined;
  /** The body has not been read, and will not be: only its content type is looked at. */
  readonly isStreaming?: boolean;
}

/**
 * What a request says once it was held against its operation. Parameters are coerced and defaulted; query parameters
 * and cookies the document does not declare are passed on as text. The body stays bytes: `isText` says whether its
 * content type is text a func will want as a string.
 */
export type ReadResult =
  | {
      readonly ok: true;
      readonly params: Readonly<Bag>;
      readonly query: Readonly<Bag>;
      readonly cookies: Readonly<Bag>;
      readonly isText: boolean;
    }
  | {
      readonly ok: false;
      readonly code: 'INVALID_REQUEST' | 'UNSUPPORTED_MEDIA_TYPE';
      /** Every violation, with pointers like `/query/page`, `/header/x-trace` and `/body/items/0/name`. */
      readonly problems: readonly Problem[];
    };

/** One operation, compiled. */
export interface CompiledOperation {
  read(request: ReadRequest): ReadResult;
  /** What is wrong with a func's answer; empty when nothing is. Not for answers to `HEAD`, which have no body. */
  checkResponse: ResponseCheck;
}

/** The operations of one document, each compiled when it is first asked for. */
export interface Validators {
  /** `index` as in `api.operations`; throws a `RangeError` for one that is not there. */
  operation(index: number): CompiledOperation;
}

/**
 * Validators for a document that `loadApi` accepted. Creating them costs nothing; the first call of an operation that
 * has anything to check compiles it (some milliseconds). Compiling generates code: never in a process that runs guests.
 */
export function createValidators(api: Api): Validators {
  const compiled: (CompiledOperation | undefined)[] = [];
  const context = createContext(api);
  return {
    operation(index) {
      const known = compiled[index];
      if (known !== undefined) return known;
      const operation = api.operations[index];
      if (operation === undefined) throw new RangeError(`no operation has index ${index}`);
      return (compiled[index] = compileOperation(operation, context));
    },
  };
}

function createContext(api: Api): Context {
  return {
    definitions: definitionsOf(api),
    exact: once(() => createSchemaCompiler(api, 'request', false)),
    coercing: once(() => createSchemaCompiler(api, 'request', true)),
    responses: {
      exact: once(() => createSchemaCompiler(api, 'response', false)),
      coercing: once(() => createSchemaCompiler(api, 'response', true)),
    },
  };
}

interface Context extends BodyCompilers {
  readonly definitions: ReturnType<typeof definitionsOf>;
  readonly responses: BodyCompilers;
}

function once(create: () => SchemaCompiler): () => SchemaCompiler {
  let created: SchemaCompiler | undefined;
  return () => (created ??= create());
}

function compileOperation(operation: ApiOperation, context: Context): CompiledOperation {
  const readParameters = createParametersReader(operation.parameters, context.definitions, context.coercing);
  const checkBody = createRequestBodyCheck(operation, context);
  return {
    read(request) {
      const problems: Problem[] = [];
      const { path, query, cookie } = readParameters(request, problems);
      const header = request.headers['content-type'];
      const type = header === undefined ? undefined : parseContentType(header);
      const supported = checkBody === undefined || checkBody(request, type, problems);
      if (problems.length > 0) {
        return { ok: false, code: supported ? 'INVALID_REQUEST' : 'UNSUPPORTED_MEDIA_TYPE', problems };
      }
      return { ok: true, params: path, query, cookies: cookie, isText: isText(type) };
    },
    checkResponse: createResponseCheck(operation.responses, context.definitions, context.responses),
  };
}

function isText(type: ContentType | undefined): boolean {
  return type !== undefined && (type.kind === 'json' || type.kind === 'text' || type.kind === 'form');
}

/** RFC 9110 §8.3: bytes without a content type may be taken for these. */
const UNTYPED: ContentType = {
  essence: 'application/octet-stream',
  kind: 'bytes',
  charset: undefined,
  boundary: undefined,
};

/** Adds to `problems`; false where the media type is not one the operation takes. */
type RequestBodyCheck = (request: ReadRequest, type: ContentType | undefined, problems: Problem[]) => boolean;

function createRequestBodyCheck(operation: ApiOperation, context: Context): RequestBodyCheck | undefined {
  const { body } = operation;
  if (body === undefined) return undefined;
  const declared = Object.keys(body.content);
  const checks = new Map<string, BodyCheck>();
  return (request, type, problems) => {
    const bytes = request.body;
    const isStreaming = request.isStreaming === true;
    if (!isStreaming && (bytes === undefined || bytes.length === 0)) {
      if (body.required) problems.push({ message: 'is required', pointer: '/body' });
      return true;
    }
    const actual = request.headers['content-type'] === undefined ? UNTYPED : type;
    const key = actual === undefined ? undefined : matchMedia(declared, actual.essence);
    const coding = request.headers['content-encoding'];
    if (actual === undefined || key === undefined || (coding !== undefined && coding !== 'identity')) {
      problems.push(unsupported(request, declared));
      return false;
    }
    const media = body.content[key];
    if (media === undefined || bytes === undefined || isStreaming) return true;
    const name = `${key} ${actual.kind}`;
    let check = checks.get(name);
    if (check === undefined) {
      check = createBodyCheck(media, actual.kind, context.definitions, context);
      checks.set(name, check);
    }
    const failed = check(bytes, actual);
    if (failed !== undefined) problems.push(...failed);
    return true;
  };
}

function unsupported(request: ReadRequest, declared: readonly string[]): Problem {
  const type = request.headers['content-type'];
  const coding = request.headers['content-encoding'];
  const taken = declared.join(', ');
  if (coding !== undefined && coding !== 'identity') {
    return {
      message: `content-encoding ${coding} is not decoded`,
      pointer: '/header/content-encoding',
      hint: 'Send the body without a content-encoding.',
    };
  }
  return {
    message: type === undefined ? `has a body but no content-type` : `${type} is not one of ${taken}`,
    pointer: CONTENT_TYPE_POINTER,
    hint: `Send the body with content-type ${taken}.`,
  };
}

/** Each schema that fails may have taken ajv a tenth of a second, and a large document has a thousand. */
const MAX_UNCOMPILABLE = 10;

/**
 * Compiles everything at once: the problems of schemas no validator can be made of, at most ten. Lets other work run
 * between operations, for a large document takes seconds.
 */
export async function compileAll(api: Api): Promise<readonly Problem[]> {
  const problems: Problem[] = [];
  const context = createContext(api);
  for (const operation of api.operations) {
    if (problems.length === MAX_UNCOMPILABLE) break;
    await setImmediate();
    try {
      compileOperation(operation, context);
      for (const [type, media] of Object.entries(operation.body?.content ?? {})) {
        createBodyCheck(media, parseContentType(type)?.kind ?? 'json', context.definitions, context);
      }
      if (!operation.validateResponses) continue;
      for (const response of Object.values(operation.responses)) {
        for (const [type, media] of Object.entries(response.content)) {
          createBodyCheck(media, parseContentType(type)?.kind ?? 'json', context.definitions, context.responses);
        }
      }
    } catch (error) {
      const message = `a schema of ${operation.operationId} cannot be compiled: ${error instanceof Error ? error.message : String(error)}`;
      problems.push({ message, pointer: pointerTo('/paths', operation.path, operation.method.toLowerCase()) });
    }
  }
  return problems;
}
