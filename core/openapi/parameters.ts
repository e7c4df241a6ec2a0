import type { Problem } from '../errors.ts';
import type { Check, SchemaCompiler } from './ajv.ts';
import type { ApiParameter, Json, JsonObject } from './api.ts';
import { type Bag, createBag } from './bag.ts';
import { isObject, listAt, memberOf, pointerTo } from './json.ts';
import { decodeAll, decodeOctets, decodeText, malformed, NO_PAIRS, parseCookies, parsePairs } from './raw-pairs.ts';
import type { RawPairs } from './raw-pairs.ts';
import { propertiesOf, resolveSchema, shapeOf } from './schema.ts';
import { createPairReader, createTextReader, deepObjectProperty, type Reader, type Serialisation } from './style.ts';

/** The parts of a request that parameters are read from. */
export interface ParameterSource {
  /** Path captures, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** As sent, without the `?`. */
  readonly queryString: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Parameters coerced and defaulted; names the document does not declare are passed on as text or lists of text. */
export interface ParameterValues {
  readonly path: Bag;
  readonly query: Bag;
  readonly header: Bag;
  readonly cookie: Bag;
}

/** Reads all parameters of one operation; puts what is wrong into `problems`, with pointers like `/query/page`. */
export type ParametersReader = (source: ParameterSource, problems: Problem[]) => ParameterValues;

interface Field<Source> {
  readonly name: string;
  readonly pointer: string;
  readonly read: Reader<Source>;
}

/** A reader made for one operation's parameters; an operation without any costs the split of its query at most. */
export function createParametersReader(
  parameters: readonly ApiParameter[],
  definitions: JsonObject,
  compiler: () => SchemaCompiler,
): ParametersReader {
  const named = (location: ApiParameter['in']): readonly ApiParameter[] =>
    parameters.filter((parameter) => parameter.in === location);
  const pathFields = named('path').map((each) => textField(each, definitions));
  const headerFields = named('header')
    .filter((each) => !IGNORED_HEADERS.has(each.name.toLowerCase()))
    .map((each) => textField({ ...each, name: each.name.toLowerCase() }, definitions));
  const query = pairGroup(named('query'), definitions, decodeText);
  const cookie = pairGroup(named('cookie'), definitions, decodeOctets);
  const check = parameters.length === 0 ? undefined : compileParameters(parameters, definitions, compiler());

  return (source, problems) => {
    const values = { path: createBag(), query: createBag(), header: createBag(), cookie: createBag() };
    for (const field of pathFields) readText(field, source.params, values.path, problems);
    for (const field of headerFields) readText(field, source.headers, values.header, problems);
    const pairs = parseQuery(source.queryString, problems);
    readPairs(query, pairs, values.query, problems);
    const { cookie: cookies } = source.headers;
    readPairs(cookie, cookies === undefined ? NO_PAIRS : parseCookies(cookies), values.cookie, problems);
    const failed = check?.(values, '');
    if (failed !== undefined) addUnknown(problems, failed);
    return values;
  };
}

/** OpenAPI says that parameters of these names are ignored: content types and authorisation are declared elsewhere. */
const IGNORED_HEADERS: ReadonlySet<string> = new Set(['accept', 'content-type', 'authorization']);

interface PairGroup {
  readonly location: string;
  readonly fields: readonly Field<RawPairs>[];
  readonly taken: ReadonlySet<string>;
  readonly deepNames: readonly string[];
  readonly open: boolean;
  readonly decode: (raw: string) => string;
}

function pairGroup(
  parameters: readonly ApiParameter[],
  definitions: JsonObject,
  decode: (raw: string) => string,
): PairGroup {
  const known = parameters.map((parameter) => serialisationOf(parameter, definitions));
  const taken = new Set(known.flatMap((each) => (isSpread(each) ? each.properties : [each.name])));
  const complete = known.map((each) => ({ ...each, taken }));
  return {
    location: parameters[0]?.in ?? 'query',
    fields: parameters.map((parameter, index) => ({
      name: parameter.name,
      pointer: pointerTo('', parameter.in, parameter.name),
      read: createPairReader(complete[index] ?? serialisationOf(parameter, definitions), decode),
    })),
    taken,
    deepNames: known.filter((each) => each.style === 'deepObject').map((each) => each.name),
    open: known.some((each) => isSpread(each) && each.open),
    decode,
  };
}

/** An exploded form object has no pair of its own name. */
function isSpread(wanted: Serialisation): boolean {
  return !wanted.json && wanted.style === 'form' && wanted.explode && wanted.shape === 'object';
}

/** What the readers of `style.ts` have to know of a parameter. */
export function serialisationOf(parameter: ApiParameter, definitions: JsonObject): Serialisation {
  const additional = memberOf(resolveSchema(parameter.schema, definitions), 'additionalProperties');
  return {
    name: parameter.name,
    location: parameter.in,
    style: parameter.style,
    explode: parameter.explode,
    json: parameter.json === true,
    shape: shapeOf(parameter.schema, definitions),
    properties: Object.keys(propertiesOf(parameter.schema, definitions)),
    open: additional === true || isObject(additional),
    taken: new Set(),
  };
}

function textField(parameter: ApiParameter, definitions: JsonObject): Field<string> {
  return {
    name: parameter.name,
    pointer: pointerTo('', parameter.in, parameter.name),
    read: createTextReader(serialisationOf(parameter, definitions)),
  };
}

function parseQuery(queryString: string, problems: Problem[]): RawPairs {
  try {
    return parsePairs(queryString);
  } catch (error) {
    problems.push({ message: malformed(error), pointer: '/query' });
    return NO_PAIRS;
  }
}

function readText(
  field: Field<string>,
  source: Readonly<Record<string, string>>,
  target: Bag,
  problems: Problem[],
): void {
  const text = source[field.name];
  if (typeof text !== 'string') return;
  try {
    target[field.name] = field.read(text);
  } catch (error) {
    problems.push({ message: malformed(error), pointer: field.pointer });
  }
}

function readPairs(group: PairGroup, pairs: RawPairs, target: Bag, problems: Problem[]): void {
  if (pairs === NO_PAIRS) return;
  for (const field of group.fields) {
    try {
      const value = field.read(pairs);
      if (value !== undefined) target[field.name] = value;
    } catch (error) {
      problems.push({ message: malformed(error), pointer: field.pointer });
    }
  }
  if (group.open) return;
  for (const [name, raw] of pairs) {
    if (group.taken.has(name) || group.deepNames.some((deep) => deepObjectProperty(name, deep) !== undefined)) continue;
    try {
      target[name] = decodeAll(raw, group.decode);
    } catch (error) {
      problems.push({ message: malformed(error), pointer: pointerTo('', group.location, name) });
    }
  }
}

/** A value that could not be read is missing where the schema looks; that it is malformed is known already. */
function addUnknown(problems: Problem[], failed: readonly Problem[]): void {
  const known = new Set(problems.map((problem) => problem.pointer));
  for (const problem of failed) if (!known.has(problem.pointer)) problems.push(problem);
}

/** One validator for all locations, so that an instance path already is our pointer. */
function compileParameters(
  parameters: readonly ApiParameter[],
  definitions: JsonObject,
  compiler: SchemaCompiler,
): Check {
  const properties: Record<string, Json> = {};
  for (const location of ['path', 'query', 'header', 'cookie'] as const) {
    const members: Record<string, Json> = {};
    const required: string[] = [];
    for (const parameter of parameters) {
      const name = location === 'header' ? parameter.name.toLowerCase() : parameter.name;
      if (parameter.in !== location || (location === 'header' && IGNORED_HEADERS.has(name))) continue;
      members[name] = memberSchema(parameter, definitions);
      if (parameter.required) required.push(name);
    }
    properties[location] = { type: 'object', properties: members, ...(required.length === 0 ? {} : { required }) };
  }
  return compiler.compile({ type: 'object', properties });
}

/** The schema with its default where ajv looks for one: beside it, not behind a reference. */
function memberSchema(parameter: ApiParameter, definitions: JsonObject): Json {
  const { schema } = parameter;
  const value = defaultOf(schema, definitions);
  const accepted: Json = parameter.allowEmptyValue === true ? { anyOf: [{ enum: [''] }, schema] } : schema;
  return value === undefined ? accepted : { allOf: [accepted], default: value };
}

function defaultOf(schema: Json, definitions: JsonObject, depth = 0): Json | undefined {
  const own = memberOf(schema, 'default') ?? memberOf(resolveSchema(schema, definitions), 'default');
  if (own !== undefined || depth > 8) return own;
  for (const member of listAt(resolveSchema(schema, definitions), 'allOf')) {
    const inherited = defaultOf(member, definitions, depth + 1);
    if (inherited !== undefined) return inherited;
  }
  return undefined;
}
