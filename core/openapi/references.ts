import type { Problem } from '../errors.ts';
import { checkDialect } from './ajv.ts';
import type { Api, Json, JsonObject, JsonSchema } from './api.ts';
import { isObject, memberOf, pointerTo, pointerTokens, refPointer, textAt, valueAt } from './json.ts';
import { nearestWord } from './nearest.ts';
import { patternProblem } from './pattern.ts';
import { KEYWORDS, mapSubschemas } from './schema.ts';

/** A value of the document and where it stands. */
export interface Located {
  readonly value: Json | undefined;
  readonly pointer: string;
}

/** Follows internal references; a broken or endless chain yields nothing (`findReferences` reports it). */
export function follow(document: JsonObject, from: Located): Located {
  let at = from;
  for (let steps = 0; steps < 32; steps++) {
    const ref = textAt(at.value, '$ref');
    if (ref === undefined) return at;
    const pointer = refPointer(ref);
    if (pointer === undefined) break;
    at = { value: valueAt(document, pointer), pointer };
  }
  return { value: undefined, pointer: from.pointer };
}

/** Members of these are named by the author, so that `example` in them is a name and no keyword. */
const NAMED: ReadonlySet<string> = new Set(
  'properties patternProperties definitions $defs dependentSchemas schemas parameters responses requestBodies headers links callbacks pathItems'.split(
    ' ',
  ),
);
/** What stands here is data: a `$ref` in it refers to nothing. */
const DATA: ReadonlySet<string> = new Set(['example', 'examples', 'default', 'enum', 'const', 'value']);

/**
 * Every `$ref` that does not lead to something inside the document. A server never reads a file or a URL for one: what
 * the author's machine resolved at packing is all there is.
 */
export function findReferences(document: JsonObject): readonly Problem[] {
  const problems: Problem[] = [];
  const walk = (value: Json, pointer: string, parent: string): void => {
    if (Array.isArray(value)) {
      for (const [index, item] of (value as readonly Json[]).entries()) walk(item, pointerTo(pointer, index), '');
    } else if (isObject(value)) {
      const ref = textAt(value, '$ref');
      if (ref !== undefined && !NAMED.has(parent)) {
        const problem = referenceProblem(document, ref);
        if (problem !== undefined) problems.push({ ...problem, pointer: pointerTo(pointer, '$ref') });
      }
      for (const [key, member] of Object.entries(value)) {
        const isData = !NAMED.has(parent) && (DATA.has(key) || key.startsWith('x-'));
        if (!isData) walk(member, pointerTo(pointer, key), key);
      }
    }
  };
  walk(document, '', '');
  return problems;
}

function referenceProblem(document: JsonObject, ref: string): Omit<Problem, 'pointer'> | undefined {
  const pointer = refPointer(ref);
  if (pointer === undefined) {
    const hint = 'References lead inside the document; funcatron pack brings files of the bundle in.';
    return { message: `$ref ${ref} does not begin with #/`, hint };
  }
  if (valueAt(document, pointer) === undefined) {
    const tokens = pointerTokens(pointer);
    const name = tokens.pop() ?? '';
    const siblings = valueAt(document, pointerTo('', ...tokens));
    const nearest = isObject(siblings) ? nearestWord(name, Object.keys(siblings)) : undefined;
    const hint = nearest === undefined ? `Add ${pointer}, or mend the reference.` : `Did you mean ${nearest}?`;
    return { message: `$ref ${ref} leads nowhere`, hint };
  }
  const end = follow(document, { value: { $ref: ref }, pointer: '' });
  if (end.value !== undefined) return undefined;
  return { message: `$ref ${ref} leads back to itself`, hint: 'Write what is meant in one of its places.' };
}

/** Collects the schemas an Api needs, their references made uniform, and what cannot be run in them. */
export interface SchemaCollector {
  /** The schema with every reference as `#/components/schemas/<name>` (or `#/definitions/<name>` in 2.0). */
  take(schema: Json | undefined, pointer: string): JsonSchema;
  /** What those references resolve against: only what was taken. */
  definitions(): JsonObject;
}

/** Keywords that move what references are relative to, which no document needs and no server should follow. */
const MOVING = ['$id', '$anchor', '$dynamicRef', '$dynamicAnchor', '$recursiveRef'];

export function createSchemaCollector(
  document: JsonObject,
  dialect: Api['dialect'],
  home: '/components/schemas' | '/definitions',
  problems: Problem[],
): SchemaCollector {
  const names = new Map<string, string>();
  const taken: Record<string, Json> = {};
  const checked = new Set<JsonObject>();

  const take = (schema: Json | undefined, pointer: string): JsonSchema => {
    if (typeof schema === 'boolean') return schema;
    if (!isObject(schema)) return {};
    if (!checked.has(schema)) {
      checked.add(schema);
      checkSchema(schema, dialect, pointer, problems);
    }
    const copy = mapSubschemas(schema, dialect, (child, ...tokens) => take(child, pointerTo(pointer, ...tokens)));
    const ref = textAt(schema, '$ref');
    const target = ref === undefined ? undefined : refPointer(ref);
    if (target !== undefined) copy['$ref'] = `#${pointerTo(home, nameOf(target)).replaceAll('%', '%25')}`;
    return copy;
  };

  const takeRoot = (schema: Json | undefined, pointer: string): JsonSchema => {
    if (dialect === '2020-12' && schema !== undefined) problems.push(...checkDialect(schema, pointer));
    return take(schema, pointer);
  };

  const nameOf = (pointer: string): string => {
    const known = names.get(pointer);
    if (known !== undefined) return known;
    const direct = pointer.startsWith(`${home}/`) && pointer.indexOf('/', home.length + 1) < 0;
    const tokens = pointerTokens(pointer);
    const name = direct ? (tokens.at(-1) ?? '') : freeName(tokens.join('.').replaceAll(/[^A-Za-z0-9_.-]/g, '_'));
    names.set(pointer, name);
    // The name is taken before the schema is looked at: a recursive one asks for it again.
    taken[name] = {};
    taken[name] = takeRoot(valueAt(document, pointer), pointer);
    return name;
  };

  const freeName = (wanted: string): string => {
    const isTaken = Object.hasOwn(taken, wanted) || valueAt(document, pointerTo(home, wanted)) !== undefined;
    return isTaken ? freeName(`${wanted}_`) : wanted;
  };

  return {
    take: takeRoot,
    definitions: () => (home === '/definitions' ? { definitions: taken } : { components: { schemas: taken } }),
  };
}

function checkSchema(schema: JsonObject, dialect: Api['dialect'], pointer: string, problems: Problem[]): void {
  const pattern = textAt(schema, 'pattern');
  const patterns: [string, string][] = pattern === undefined ? [] : [[pattern, pointerTo(pointer, 'pattern')]];
  const byPattern = KEYWORDS[dialect].has('patternProperties') ? memberOf(schema, 'patternProperties') : undefined;
  for (const source of Object.keys(isObject(byPattern) ? byPattern : {})) {
    patterns.push([source, pointerTo(pointer, 'patternProperties', source)]);
  }
  for (const [source, at] of patterns) {
    const message = patternProblem(source);
    const hint = 'Write it without look-around, back-references and repeats above 1000.';
    if (message !== undefined) problems.push({ message, pointer: at, hint });
  }
  for (const keyword of MOVING) {
    if (dialect === '2020-12' && memberOf(schema, keyword) !== undefined) {
      problems.push({
        message: `${keyword} is not in this version`,
        pointer: pointerTo(pointer, keyword),
        hint: 'Use $ref: "#/components/schemas/…".',
      });
    }
  }
}
