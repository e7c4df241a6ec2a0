import type { OperationSettings } from '../bundle/read-manifest.ts';
import type { Problem } from '../errors.ts';
import type { ApiBody, ApiMedia, ApiOperation, ApiParameter, ApiResponse, Json, JsonObject } from './api.ts';
import { isObject, listAt, memberOf, pointerTo, textAt } from './json.ts';
import { follow, type Located, type SchemaCollector } from './references.ts';

/** One operation of a document before it is read. */
export interface OperationSite {
  /** Upper case. */
  readonly method: string;
  readonly path: string;
  readonly operation: JsonObject;
  readonly pointer: string;
  /** Of the path item and of the operation, followed; the operation's replace those of the same name and place. */
  readonly parameters: readonly Located[];
}

/** What reads the parts that differ between Swagger 2.0 and OpenAPI 3. */
export interface EditionReader {
  basePath(): string;
  parameters(site: OperationSite): readonly ApiParameter[];
  body(site: OperationSite): ApiBody | undefined;
  response(site: OperationSite, response: Located): ApiResponse;
}

/** What every edition's reader works with. */
export interface ReaderContext {
  readonly document: JsonObject;
  readonly schemas: SchemaCollector;
  readonly problems: Problem[];
}

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace'];
/** RFC 9110 §9.2.2 */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']);

/** The operations of a document, in its order. Duplicate parameters are reported. */
export function sitesOf(document: JsonObject, problems: Problem[]): readonly OperationSite[] {
  const sites: OperationSite[] = [];
  const paths = memberOf(document, 'paths');
  for (const [path, entry] of Object.entries(isObject(paths) ? paths : {})) {
    if (path.startsWith('x-')) continue;
    const item = follow(document, { value: entry, pointer: pointerTo('/paths', path) });
    const shared = parametersAt(document, item, problems);
    for (const method of Object.keys(isObject(item.value) ? item.value : {})) {
      const operation = memberOf(item.value, method);
      if (!METHODS.includes(method) || !isObject(operation)) continue;
      const pointer = pointerTo(item.pointer, method);
      const own = parametersAt(document, { value: operation, pointer }, problems);
      const keys = new Set(own.map(parameterKey));
      const parameters = [...shared.filter((each) => !keys.has(parameterKey(each))), ...own];
      sites.push({ method: method.toUpperCase(), path, operation, pointer, parameters });
    }
  }
  return sites;
}

function parametersAt(document: JsonObject, owner: Located, problems: Problem[]): readonly Located[] {
  const found = new Map<string, Located>();
  for (const [index, value] of listAt(owner.value, 'parameters').entries()) {
    const pointer = pointerTo(owner.pointer, 'parameters', index);
    const parameter = follow(document, { value, pointer });
    if (!isObject(parameter.value)) continue;
    const key = parameterKey(parameter);
    if (textAt(parameter.value, 'name') === '__proto__') {
      const hint = 'Give it another name.';
      problems.push({ message: 'parameter __proto__ has a name that cannot be used', pointer, hint });
    }
    if (found.has(key)) {
      problems.push({ message: `parameter ${key} is declared twice`, pointer, hint: 'Remove one of them.' });
    } else found.set(key, parameter);
  }
  return [...found.values()];
}

/** `query page`; names of headers have no case. */
function parameterKey(parameter: Located): string {
  const place = textAt(parameter.value, 'in') ?? '';
  const name = textAt(parameter.value, 'name') ?? '';
  return `${place} ${place === 'header' ? name.toLowerCase() : name}`;
}

/** Puts an operation together from what its edition's reader and its settings say. */
export function buildOperation(
  context: ReaderContext,
  reader: EditionReader,
  site: OperationSite,
  settings: OperationSettings,
): ApiOperation {
  const operationId = textAt(site.operation, 'operationId') ?? '';
  const summary = textAt(site.operation, 'summary');
  const body = reader.body(site);
  return {
    operationId,
    method: site.method,
    path: site.path,
    handler: settings.handler ?? operationId,
    ...(summary === undefined ? {} : { summary }),
    timeoutMs: settings.timeoutMs,
    mayRerun: settings.idempotent ?? IDEMPOTENT.has(site.method),
    validateResponses: settings.validateResponses,
    http: settings.http,
    ...(settings.direct ? { direct: true } : {}),
    ...(settings.maxBodyBytes === undefined ? {} : { maxBodyBytes: settings.maxBodyBytes }),
    parameters: reader.parameters(site),
    ...(body === undefined ? {} : { body }),
    responses: readResponses(context, reader, site),
  };
}

function readResponses(
  context: ReaderContext,
  reader: EditionReader,
  site: OperationSite,
): Readonly<Record<string, ApiResponse>> {
  const responses: Record<string, ApiResponse> = {};
  const declared = memberOf(site.operation, 'responses');
  for (const [status, value] of Object.entries(isObject(declared) ? declared : {})) {
    if (status.startsWith('x-')) continue;
    const pointer = pointerTo(site.pointer, 'responses', status);
    if (!/^(?:default|[1-5](?:\d\d|XX))$/.test(status)) {
      context.problems.push({ message: `${status} is no status`, pointer, hint: 'Write 200, 4XX or default.' });
      continue;
    }
    responses[status] = reader.response(site, follow(context.document, { value, pointer }));
  }
  return responses;
}

/** A media type without its parameters, lower case: the key it has in the Api. */
export function mediaKey(type: string): string {
  return (type.split(';', 1)[0] ?? '').trim().toLowerCase();
}

/** One schema under several media types. */
export function sameMedia(types: readonly string[], media: ApiMedia): Readonly<Record<string, ApiMedia>> {
  return Object.fromEntries(types.map((type) => [mediaKey(type), media]));
}

/** The texts of a list, anything else in it left out. */
export function textsOf(value: readonly Json[]): readonly string[] {
  return value.filter((each): each is string => typeof each === 'string');
}
