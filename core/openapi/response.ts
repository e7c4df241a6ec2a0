import type { Problem } from '../errors.ts';
import type { ApiOperation, ApiResponse, Json, JsonObject } from './api.ts';
import { type BodyCheck, type BodyCompilers, CONTENT_TYPE_POINTER, createBodyCheck } from './body.ts';
import { pointerTo } from './json.ts';
import { createBag } from './bag.ts';
import { matchMedia, parseContentType } from './media.ts';
import { serialisationOf } from './parameters.ts';
import { malformed } from './raw-pairs.ts';
import { createTextReader } from './style.ts';

/** Headers of an answer; names in lower case. */
export type ResponseHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/** What is wrong with an answer, with pointers `/status`, `/header/…`, `/body/…`; empty when nothing is. */
export type ResponseCheck = (status: number, headers: ResponseHeaders, body: Buffer) => readonly Problem[];

type DeclaredCheck = (headers: ResponseHeaders, body: Buffer, problems: Problem[]) => void;

const NO_PROBLEMS: readonly Problem[] = [];

/** A check of an operation's answers: the exact status before its class (`4XX`) before `default`. */
export function createResponseCheck(
  responses: ApiOperation['responses'],
  definitions: JsonObject,
  compilers: BodyCompilers,
): ResponseCheck {
  const checks = new Map<string, DeclaredCheck>();
  return (status, headers, body) => {
    const key = [String(status), `${Math.floor(status / 100)}XX`, 'default'].find((each) =>
      Object.hasOwn(responses, each),
    );
    const response = key === undefined ? undefined : responses[key];
    if (key === undefined || response === undefined) {
      return [{ message: `${status} is not one of ${Object.keys(responses).join(', ')}`, pointer: '/status' }];
    }
    let check = checks.get(key);
    if (check === undefined) checks.set(key, (check = declaredCheck(response, definitions, compilers)));
    const problems: Problem[] = [];
    check(headers, body, problems);
    return problems.length === 0 ? NO_PROBLEMS : problems;
  };
}

function declaredCheck(response: ApiResponse, definitions: JsonObject, compilers: BodyCompilers): DeclaredCheck {
  const declared = Object.keys(response.content);
  const checks = new Map<string, BodyCheck>();
  const checkHeaders = headersCheck(response, definitions, compilers);
  return (headers, body, problems) => {
    checkHeaders(headers, problems);
    if (declared.length === 0) return;
    const header = headers['content-type'];
    const type = typeof header === 'string' ? parseContentType(header) : undefined;
    const key = type === undefined ? undefined : matchMedia(declared, type.essence);
    const media = key === undefined ? undefined : response.content[key];
    if (type === undefined || media === undefined) {
      const message = `${String(header ?? 'no content type')} is not one of ${declared.join(', ')}`;
      problems.push({ message, pointer: CONTENT_TYPE_POINTER });
      return;
    }
    const name = `${key} ${type.kind}`;
    let check = checks.get(name);
    if (check === undefined) checks.set(name, (check = createBodyCheck(media, type.kind, definitions, compilers)));
    const failed = check(body, type);
    if (failed !== undefined) problems.push(...failed);
  };
}

function headersCheck(
  response: ApiResponse,
  definitions: JsonObject,
  compilers: BodyCompilers,
): (headers: ResponseHeaders, problems: Problem[]) => void {
  const declared = Object.entries(response.headers ?? {}).filter(([name]) => name.toLowerCase() !== 'content-type');
  if (declared.length === 0) return acceptHeaders;
  const required = declared.filter(([, header]) => header.required === true).map(([name]) => name.toLowerCase());
  const properties: Record<string, Json> = {};
  const readers = declared.map(([header, { schema = {} }]) => {
    const name = header.toLowerCase();
    properties[name] = schema;
    const wanted = { name, in: 'header', required: false, schema, style: 'simple', explode: false } as const;
    return { name, read: createTextReader(serialisationOf(wanted, definitions)) };
  });
  const check = compilers.coercing().compile({
    type: 'object',
    properties: { header: { type: 'object', properties, ...(required.length === 0 ? {} : { required }) } },
  });
  return (headers, problems) => {
    const header = createBag();
    for (const { name, read } of readers) {
      const value = headers[name];
      if (value === undefined) continue;
      try {
        header[name] = read(typeof value === 'string' ? value : value.join(','));
      } catch (error) {
        problems.push({ message: malformed(error), pointer: pointerTo('', 'header', name) });
      }
    }
    const failed = check({ header }, '');
    if (failed !== undefined) problems.push(...failed);
  };
}

function acceptHeaders(): void {
  // No header is declared: any will do.
}
