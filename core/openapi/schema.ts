import type { Api, Json, JsonObject, JsonSchema } from './api.ts';
import { isObject, memberOf, textAt } from './json.ts';

/** What the schemas are checked against: `readOnly` members are not required of requests, `writeOnly` ones not of responses. */
export type Direction = 'request' | 'response';

/** What a keyword's value is: plain data, one schema, a list of schemas, or a map of schemas. */
export type KeywordKind = 'value' | 'schema' | 'list' | 'map';

function keywords(kind: KeywordKind, names: string): [string, KeywordKind][] {
  return names.split(' ').map((name) => [name, kind]);
}

const COMMON = [
  ...keywords('value', 'type enum format pattern default required'),
  ...keywords('value', 'multipleOf maximum exclusiveMaximum minimum exclusiveMinimum'),
  ...keywords('value', 'maxLength minLength maxItems minItems uniqueItems maxProperties minProperties'),
  ...keywords('schema', 'items not additionalProperties'),
  ...keywords('list', 'allOf anyOf oneOf'),
  ...keywords('map', 'properties'),
];

/** The validating keywords of each dialect; everything else in a schema is annotation and no validator sees it. */
export const KEYWORDS: Readonly<Record<Api['dialect'], ReadonlyMap<string, KeywordKind>>> = {
  'draft-04': new Map([...COMMON, ...keywords('value', 'nullable')]),
  '2020-12': new Map([
    ...COMMON,
    ...keywords('value', 'const minContains maxContains dependentRequired'),
    ...keywords('schema', 'contains propertyNames if then else unevaluatedItems unevaluatedProperties'),
    ...keywords('list', 'prefixItems'),
    ...keywords('map', 'patternProperties dependentSchemas $defs'),
  ]),
};

/** A copy of a schema with each of its direct sub-schemas replaced; `map` gets the tokens that lead to one. */
export function mapSubschemas(
  schema: JsonObject,
  dialect: Api['dialect'],
  map: (child: Json, ...tokens: readonly (string | number)[]) => Json,
): Record<string, Json> {
  const copy: Record<string, Json> = { ...schema };
  for (const [keyword, value] of Object.entries(schema)) {
    const kind = KEYWORDS[dialect].get(keyword);
    if (kind === undefined || kind === 'value') continue;
    if (kind === 'map') {
      if (isObject(value)) copy[keyword] = mapMembers(value, (child, name) => map(child, keyword, name));
    } else if (Array.isArray(value)) {
      copy[keyword] = value.map((child: Json, index) => map(child, keyword, index));
    } else if (kind === 'schema') copy[keyword] = map(value, keyword);
  }
  return copy;
}

/**
 * A document's schema as ajv is to see it: annotations gone (an `example` with an `id` in it is no schema), siblings
 * of `$ref` ignored where draft 4 says so, `nullable` only where it has an effect, `readOnly`/`writeOnly` taken out of
 * `required`, discriminators turned into conditions, and references rewritten to `document#/definitions/…`.
 */
export function prepareSchema(schema: Json, dialect: Api['dialect'], direction: Direction): Json {
  if (!isObject(schema)) return schema;
  const ref = textAt(schema, '$ref');
  if (ref !== undefined && dialect === 'draft-04') return { $ref: rewriteRef(ref) };
  const validating = Object.entries(schema).filter(([keyword]) => KEYWORDS[dialect].has(keyword));
  const prepared = mapSubschemas(Object.fromEntries(validating), dialect, (child) =>
    prepareSchema(child, dialect, direction),
  );
  if (ref !== undefined) prepared['$ref'] = rewriteRef(ref);
  if (prepared['type'] === undefined) delete prepared['nullable'];
  if (prepared['type'] === 'file') prepared['type'] = 'string';
  const required = requiredIn(schema, direction);
  if (required !== undefined) {
    if (required.length === 0) delete prepared['required'];
    else prepared['required'] = required;
  }
  return discriminate(schema, prepared);
}

function mapMembers(value: JsonObject, map: (member: Json, name: string) => Json): JsonObject {
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, map(member, name)]));
}

function requiredIn(schema: JsonObject, direction: Direction): readonly string[] | undefined {
  const required = memberOf(schema, 'required');
  if (!Array.isArray(required)) return undefined;
  const hidden = direction === 'request' ? 'readOnly' : 'writeOnly';
  const properties = memberOf(schema, 'properties');
  return required.filter(
    (name): name is string => typeof name === 'string' && memberOf(memberOf(properties, name), hidden) !== true,
  );
}

/**
 * `oneOf` of references with a discriminator → the tag is required and one of the names, and the schema it names
 * holds: one clear violation instead of those of every branch. ajv's own keyword refuses `mapping` and tags without
 * `enum`, which most documents have.
 */
function discriminate(schema: JsonObject, prepared: Record<string, Json>): Json {
  const tag = textAt(memberOf(schema, 'discriminator'), 'propertyName');
  const keyword = Array.isArray(schema['oneOf']) ? 'oneOf' : 'anyOf';
  const members = schema[keyword];
  if (tag === undefined || !Array.isArray(members)) return prepared;
  const refs = members.map((member: Json) => textAt(member, '$ref'));
  if (!refs.every((ref) => ref !== undefined)) return prepared;
  const byName = new Map<string, string>();
  for (const ref of refs) byName.set(refName(ref), ref);
  const mapping = memberOf(memberOf(schema, 'discriminator'), 'mapping');
  for (const [name, target] of Object.entries(isObject(mapping) ? mapping : {})) {
    const ref = refs.find((each) => each === target || refName(each) === target);
    if (ref !== undefined) byName.set(name, ref);
  }
  delete prepared[keyword];
  const tagged = (names: readonly string[]): Json => ({
    type: 'object',
    properties: { [tag]: { enum: names } },
    required: [tag],
  });
  // oxlint-disable-next-line unicorn/no-thenable -- `then` is a keyword of JSON Schema here
  const branches = [...byName].map(([name, ref]): Json => ({ if: tagged([name]), then: { $ref: rewriteRef(ref) } }));
  const before = prepared['allOf'];
  prepared['allOf'] = [...(Array.isArray(before) ? before : []), tagged([...byName.keys()]), ...branches];
  return prepared;
}

/** Where ajv finds the definitions of a document. */
export const DEFINITIONS_ID = 'document';

/** `#/components/schemas/Pet` → `document#/definitions/Pet`. The loader leaves no other form of reference. */
function rewriteRef(ref: string): string {
  return `${DEFINITIONS_ID}#/definitions${ref.slice(ref.lastIndexOf('/'))}`;
}

/** The schemas references resolve to, by the last token of the reference (decoded). */
export function definitionsOf(api: Pick<Api, 'definitions'>): JsonObject {
  const schemas =
    memberOf(memberOf(api.definitions, 'components'), 'schemas') ?? memberOf(api.definitions, 'definitions');
  return isObject(schemas) ? schemas : {};
}

/** What a value of a schema looks like on a line of text, references and `allOf` followed. */
export type Shape = 'array' | 'object' | 'value';

/** The shape a parameter's schema asks for. Lists win over objects, objects over plain values. */
export function shapeOf(schema: JsonSchema | Json | undefined, definitions: JsonObject, depth = 0): Shape {
  const resolved = resolveSchema(schema, definitions);
  const type = memberOf(resolved, 'type');
  const types: readonly unknown[] = Array.isArray(type) ? type : [type];
  if (types.includes('array')) return 'array';
  if (types.includes('object') || memberOf(resolved, 'properties') !== undefined) return 'object';
  if (depth > 8) return 'value';
  const shapes = membersOf(resolved).map((member) => shapeOf(member, definitions, depth + 1));
  return shapes.find((shape) => shape === 'array') ?? shapes.find((shape) => shape === 'object') ?? 'value';
}

/** The properties a schema names, references and combinations followed. */
export function propertiesOf(schema: JsonSchema | Json | undefined, definitions: JsonObject, depth = 0): JsonObject {
  const resolved = resolveSchema(schema, definitions);
  const own = memberOf(resolved, 'properties');
  if (depth > 8) return isObject(own) ? own : {};
  const inherited = membersOf(resolved).map((member) => propertiesOf(member, definitions, depth + 1));
  return Object.assign({}, ...inherited, isObject(own) ? own : {});
}

/** Follows references; a chain that never ends (refused at load) yields an empty schema. */
export function resolveSchema(schema: JsonSchema | Json | undefined, definitions: JsonObject): Json {
  let resolved: Json = schema ?? {};
  for (let steps = 0; steps < 32; steps++) {
    const ref = textAt(resolved, '$ref');
    if (ref === undefined) return resolved;
    resolved = memberOf(definitions, refName(ref)) ?? {};
  }
  return {};
}

/** `#/components/schemas/Pet` → `Pet`. */
function refName(ref: string): string {
  const token = decodeURIComponent(ref.slice(ref.lastIndexOf('/') + 1));
  return token.replaceAll('~1', '/').replaceAll('~0', '~');
}

function membersOf(schema: Json): readonly Json[] {
  return ['allOf', 'oneOf', 'anyOf'].flatMap((keyword): readonly Json[] => {
    const members = memberOf(schema, keyword);
    return Array.isArray(members) ? members : [];
  });
}
