import type { ApiBody, ApiMedia, ApiParameter, ApiResponse, Json, JsonObject, JsonSchema } from './api.ts';
import { isObject, listAt, memberOf, pointerTo, textAt } from './json.ts';
import { type EditionReader, mediaKey, type OperationSite, type ReaderContext, sameMedia, textsOf } from './model.ts';
import type { Located } from './references.ts';
import { KEYWORDS } from './schema.ts';

type Style = Pick<ApiParameter, 'style' | 'explode'>;

const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';
const MULTIPART_TYPE = 'multipart/form-data';

/** Reads the parts of a Swagger 2.0 document. https://spec.openapis.org/oas/v2.0 */
export function createSwagger2Reader(context: ReaderContext): EditionReader {
  return {
    basePath: () => textAt(context.document, 'basePath') ?? '',
    parameters: (site) =>
      site.parameters
        .filter(({ value }) => !['body', 'formData'].includes(textAt(value, 'in') ?? ''))
        .map((each) => readParameter(context, each)),
    body: (site) => readBody(context, site),
    response: (site, response) => readResponse(context, site, response),
  };
}

function readParameter(context: ReaderContext, { value, pointer }: Located): ApiParameter {
  const place = (textAt(value, 'in') ?? 'query') as ApiParameter['in'];
  return {
    name: textAt(value, 'name') ?? '',
    in: place,
    required: place === 'path' || memberOf(value, 'required') === true,
    schema: readItems(context, value, pointer),
    ...readStyle(context, value, pointer, place === 'query' || (place as string) === 'formData' ? 'form' : 'simple'),
    ...(memberOf(value, 'allowEmptyValue') === true ? { allowEmptyValue: true } : {}),
  };
}

/** A parameter, header or item as a schema: the keywords stand beside the name. */
function readItems(context: ReaderContext, value: Json | undefined, pointer: string): JsonSchema {
  const schema: Record<string, Json> = {};
  for (const [key, member] of Object.entries(isObject(value) ? value : {})) {
    // A parameter's `required` is about the parameter.
    if (KEYWORDS['draft-04'].has(key) && key !== 'required') schema[key] = member;
  }
  const items = memberOf(value, 'items');
  if (items !== undefined && textAt(items, 'type') === 'array') {
    const hint = 'Send it in a JSON body.';
    const at = pointerTo(pointer, 'items', 'type');
    context.problems.push({ message: 'a list of lists has no form as a parameter', pointer: at, hint });
  }
  return context.schemas.take(schema, pointer);
}

function readStyle(context: ReaderContext, value: Json | undefined, pointer: string, base: 'form' | 'simple'): Style {
  const format = textAt(value, 'collectionFormat') ?? 'csv';
  if (format === 'multi' && base === 'simple') {
    const hint = 'Only query and formData parameters can be sent several times.';
    const at = pointerTo(pointer, 'collectionFormat');
    context.problems.push({ message: 'collectionFormat multi does not fit here', pointer: at, hint });
  }
  switch (format) {
    case 'ssv':
      return { style: 'spaceDelimited', explode: false };
    case 'tsv':
      return { style: 'tabDelimited', explode: false };
    case 'pipes':
      return { style: 'pipeDelimited', explode: false };
    default:
      return { style: base, explode: format === 'multi' };
  }
}

function readBody(context: ReaderContext, site: OperationSite): ApiBody | undefined {
  const body = site.parameters.find(({ value }) => textAt(value, 'in') === 'body');
  const fields = site.parameters.filter(({ value }) => textAt(value, 'in') === 'formData');
  if (body !== undefined && fields.length > 0) {
    const message = 'an operation has either a body or formData parameters';
    const hint = 'Keep one of the two; fields of a JSON body go into the schema of body.';
    context.problems.push({ message, pointer: pointerTo(site.pointer, 'parameters'), hint });
  }
  const consumes = typesOf(context.document, site.operation, 'consumes');
  if (body !== undefined) {
    const schema = context.schemas.take(memberOf(body.value, 'schema'), pointerTo(body.pointer, 'schema'));
    const types = consumes.length > 0 ? consumes : [JSON_TYPE];
    return { required: memberOf(body.value, 'required') === true, content: sameMedia(types, { schema }) };
  }
  return fields.length === 0 ? undefined : readForm(context, fields, consumes);
}

function readForm(context: ReaderContext, fields: readonly Located[], consumes: readonly string[]): ApiBody {
  const properties: Record<string, Json> = {};
  const required: string[] = [];
  const encoding: Record<string, { style: string; explode: boolean }> = {};
  for (const { value, pointer } of fields) {
    const name = textAt(value, 'name') ?? '';
    const isFile = textAt(value, 'type') === 'file';
    properties[name] = isFile ? { type: 'string', format: 'binary' } : readItems(context, value, pointer);
    if (memberOf(value, 'required') === true) required.push(name);
    if (textAt(value, 'type') === 'array') encoding[name] = readStyle(context, value, pointer, 'form');
  }
  const schema: JsonObject = { type: 'object', properties, ...(required.length === 0 ? {} : { required }) };
  const media: ApiMedia = { schema, ...(Object.keys(encoding).length === 0 ? {} : { encoding }) };
  const hasFile = fields.some(({ value }) => textAt(value, 'type') === 'file');
  const usual = hasFile ? MULTIPART_TYPE : FORM_TYPE;
  const types = consumes.filter((type) => type === MULTIPART_TYPE || (type === FORM_TYPE && !hasFile));
  return { required: required.length > 0, content: sameMedia(types.length > 0 ? types : [usual], media) };
}

function readResponse(context: ReaderContext, site: OperationSite, { value, pointer }: Located): ApiResponse {
  const declared = memberOf(value, 'schema');
  const headers = memberOf(value, 'headers');
  const produces = typesOf(context.document, site.operation, 'produces');
  const types = produces.length > 0 ? produces : [JSON_TYPE];
  const schema = context.schemas.take(declared, pointerTo(pointer, 'schema'));
  return {
    content: declared === undefined ? {} : sameMedia(types, textAt(declared, 'type') === 'file' ? {} : { schema }),
    ...(isObject(headers)
      ? {
          headers: Object.fromEntries(
            Object.entries(headers).map(([name, header]) => [
              name,
              { schema: readItems(context, header, pointerTo(pointer, 'headers', name)) },
            ]),
          ),
        }
      : {}),
  };
}

/** `consumes` or `produces`: the operation's own list, even an empty one, before the document's. */
function typesOf(document: JsonObject, operation: JsonObject, key: 'consumes' | 'produces'): readonly string[] {
  const owner = memberOf(operation, key) === undefined ? document : operation;
  return textsOf(listAt(owner, key)).map(mediaKey);
}
