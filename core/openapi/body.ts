import type { Problem } from '../errors.ts';
import type { Check, SchemaCompiler } from './ajv.ts';
import type { ApiMedia, ApiParameter, Json, JsonObject } from './api.ts';
import { type Bag, createBag } from './bag.ts';
import { isObject, memberOf, pointerTo, textAt } from './json.ts';
import { type ContentType, decodeBody } from './media.ts';
import { parseMultipart, type Part } from './multipart.ts';
import { serialisationOf } from './parameters.ts';
import { decodeAll, decodeText, malformed, MalformedText, parsePairs } from './raw-pairs.ts';
import { propertiesOf, resolveSchema, shapeOf } from './schema.ts';
import { createPairReader } from './style.ts';

/** Checks a body that arrived with one content type; `undefined` when nothing is wrong. Never changes the bytes. */
export type BodyCheck = (body: Buffer, type: ContentType) => readonly Problem[] | undefined;

/** The compilers a check may need: one that leaves values alone, one that reads text. */
export interface BodyCompilers {
  readonly exact: () => SchemaCompiler;
  readonly coercing: () => SchemaCompiler;
}

/** A check for one declared media type and one way of reading it. `pointer` is where its problems point: `/body`. */
export function createBodyCheck(
  media: ApiMedia,
  kind: ContentType['kind'],
  definitions: JsonObject,
  compilers: BodyCompilers,
): BodyCheck {
  if (kind === 'json') return jsonCheck(constrains(media.schema) ? compilers.exact().compile(media.schema) : undefined);
  if (kind === 'form') return formCheck(media, definitions, compilers);
  if (kind === 'multipart') return multipartCheck(media, definitions, compilers);
  return kind === 'text' ? textCheck(media, definitions, compilers) : acceptAny;
}

function acceptAny(): undefined {
  return undefined;
}

function constrains(schema: ApiMedia['schema']): schema is Exclude<ApiMedia['schema'], undefined> {
  return schema === false || (isObject(schema) && Object.keys(schema).length > 0);
}

function problem(message: string): readonly Problem[] {
  return [{ message, pointer: '/body' }];
}

function jsonCheck(check: Check | undefined): BodyCheck {
  return (body, type) => {
    const text = decodeBody(body, type.charset);
    if (text === undefined) return problem('is not text in its charset');
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return problem(`is not JSON: ${error instanceof Error ? error.message : String(error)}`);
    }
    return check?.(value, '/body');
  };
}

/** Text is checked like a parameter: what the schema asks for may be a number written out. */
function textCheck(media: ApiMedia, definitions: JsonObject, compilers: BodyCompilers): BodyCheck {
  const plain = shapeOf(media.schema, definitions) === 'value';
  const check = constrains(media.schema) && plain ? compileBody(media.schema, compilers) : undefined;
  return (body, type) => {
    const text = decodeBody(body, type.charset);
    if (text === undefined) return problem('is not text in its charset');
    return check?.({ body: text }, '');
  };
}

function compileBody(schema: Json, compilers: BodyCompilers): Check {
  return compilers.coercing().compile({ type: 'object', properties: { body: schema } });
}

/** Each property of the form is read like a query parameter, or as JSON where it is an object. RFC 1866; OpenAPI 3.1 §4.8.14. */
function formCheck(media: ApiMedia, definitions: JsonObject, compilers: BodyCompilers): BodyCheck {
  const fields = Object.entries(propertiesOf(media.schema, definitions)).map(([name, schema]) => ({
    name,
    read: createPairReader(serialisationOf(fieldParameter(name, schema, media, definitions), definitions), decodeText),
  }));
  const declared = new Set(fields.map((field) => field.name));
  const check = constrains(media.schema) ? compileBody(media.schema, compilers) : undefined;
  return (body) => {
    const value = createBag();
    try {
      const pairs = parsePairs(body.toString('utf8'));
      for (const field of fields) {
        const read = field.read(pairs);
        if (read !== undefined) value[field.name] = read;
      }
      for (const [name, raw] of pairs) {
        if (!declared.has(name) && !name.includes('[')) value[name] = decodeAll(raw, decodeText);
      }
    } catch (error) {
      return problem(malformed(error));
    }
    return check?.({ body: value }, '');
  };
}

function fieldParameter(name: string, schema: Json, media: ApiMedia, definitions: JsonObject): ApiParameter {
  const encoding = media.encoding?.[name];
  const style = (encoding?.style ?? 'form') as ApiParameter['style'];
  const json = encoding?.style === undefined && shapeOf(schema, definitions) === 'object';
  const explode = encoding?.explode ?? style === 'form';
  return { name, in: 'query', required: false, schema: asSchema(schema), style, explode, json };
}

function multipartCheck(media: ApiMedia, definitions: JsonObject, compilers: BodyCompilers): BodyCheck {
  const properties = propertiesOf(media.schema, definitions);
  const lists = new Set(Object.keys(properties).filter((name) => shapeOf(properties[name], definitions) === 'array'));
  const objects = new Set(
    Object.keys(properties).filter((name) => shapeOf(properties[name], definitions) === 'object'),
  );
  const check = constrains(media.schema) ? compileBody(withoutFiles(media.schema, definitions), compilers) : undefined;
  return (body, type) => {
    if (type.boundary === undefined) return problem('has a content type without a boundary');
    const value = createBag();
    try {
      for (const part of parseMultipart(body, type.boundary)) addPart(value, part, lists, objects);
    } catch (error) {
      return problem(malformed(error));
    }
    return check?.({ body: value }, '');
  };
}

function addPart(value: Bag, part: Part, lists: ReadonlySet<string>, objects: ReadonlySet<string>): void {
  const read = partValue(part, objects.has(part.name));
  const known = value[part.name];
  if (known === undefined) value[part.name] = lists.has(part.name) ? [read] : read;
  else if (Array.isArray(known)) known.push(read);
  else value[part.name] = [known, read];
}

/** A file stands for itself as empty text: only its presence is checked, its bytes are the func's to judge. */
function partValue(part: Part, isJson: boolean): unknown {
  if (part.filename !== undefined) return '';
  const text = part.bytes.toString('utf8');
  if (!isJson && !part.contentType.startsWith('application/json')) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new MalformedText(`has a part ${part.name} that is not JSON`);
  }
}

/** The schema with everything asked of a file's content taken out. */
function withoutFiles(schema: Json, definitions: JsonObject): Json {
  const resolved = resolveSchema(schema, definitions);
  const properties = memberOf(resolved, 'properties');
  if (!isObject(resolved) || !isObject(properties)) return schema;
  const kept = Object.entries(properties).map(([name, property]): [string, Json] => {
    if (isFile(property, definitions)) return [name, {}];
    const items = memberOf(property, 'items');
    return [name, isObject(property) && isFile(items, definitions) ? { ...property, items: {} } : property];
  });
  return { ...resolved, properties: Object.fromEntries(kept) };
}

function isFile(schema: Json | undefined, definitions: JsonObject): boolean {
  const resolved = resolveSchema(schema, definitions);
  const format = textAt(resolved, 'format');
  if (format === 'binary' || format === 'byte' || memberOf(resolved, 'type') === 'file') return true;
  return memberOf(resolved, 'contentMediaType') !== undefined || memberOf(resolved, 'contentEncoding') !== undefined;
}

function asSchema(schema: Json): ApiParameter['schema'] {
  return isObject(schema) || typeof schema === 'boolean' ? schema : {};
}

/** `/header/content-type`: where problems with a content type point. */
export const CONTENT_TYPE_POINTER = pointerTo('', 'header', 'content-type');
