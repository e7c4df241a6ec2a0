import type { ErrorObject } from 'ajv';
import type { Problem } from '../errors.ts';
import type { JsonObject } from './api.ts';
import { isObject, listAt, memberOf, objectAt, pointerTo, pointerTokens, textAt } from './json.ts';
import { nearestWord } from './nearest.ts';

/** The keyword that says what of a key this version runs: a schema, or `false` for nothing. */
export const THIS_VERSION = 'x-thisVersion';

/** Says what is wrong with a setting and what to write instead. */
export type SettingDescriber = (error: ErrorObject, pointer: string) => Problem;

/**
 * Makes problems of ajv's errors. All that is said beyond the mistake comes from the schema: `title` (what a text with a
 * pattern is), `description` and the first of the `examples` become the hint, and the titles of `$defs` say where a key belongs
 * that stands in the wrong one. Values are not repeated: a text may be a secret.
 */
export function createSettingDescriber(schema: JsonObject): SettingDescriber {
  const definitions = objectAt(schema, '$defs');

  function resolve(part: unknown): unknown {
    const target = textAt(part, '$ref')?.split('/').at(-1);
    // What is written beside a reference, a default above all, is of this place.
    return target === undefined ? part : { ...objectAt(definitions, target), ...(part as object) };
  }

  /** `memoryMb: 128` with what it means, or `undefined` where the schema says neither. */
  function meaning(part: unknown, pointer: string): string | undefined {
    const description = textAt(part, 'description');
    const [example] = listAt(part, 'examples');
    if (example === undefined) return description;
    const key = pointerTokens(pointer).at(-1) ?? '';
    const shown = /^\d+$/.test(key) ? flow(example) : `${key}: ${flow(example)}`;
    return `${description === undefined ? '' : `${description} `}For example ${shown}`;
  }

  function unknownKey(key: string, at: string, object: unknown): Problem {
    const pointer = pointerTo(at, key);
    const properties = Object.entries(objectAt(object, 'properties'));
    const known = properties.filter(([, part]) => memberOf(part, THIS_VERSION) !== false).map(([name]) => name);
    const home = Object.values(definitions).find(
      (each) =>
        textAt(each, 'title') !== undefined &&
        Object.hasOwn(objectAt(each, 'properties'), key) &&
        !isSame(each, object),
    );
    const nearest = meantWord(key, known);
    const hint =
      nearest !== undefined
        ? `Did you mean ${nearest}?`
        : home === undefined
          ? `The keys of ${labelOf(at)} are ${known.join(', ')}.`
          : `It belongs to ${textAt(home, 'title')}.`;
    return { message: `${key} is not a key of ${labelOf(at)}`, pointer, hint };
  }

  return (error, pointer) => {
    const at = pointer + error.instancePath;
    const { params, data, parentSchema: part } = error;
    const label = labelOf(at);
    const surplus: unknown = params['additionalProperty'];
    if (typeof surplus === 'string') return unknownKey(surplus, at, part);
    const missing: unknown = params['missingProperty'];
    if (typeof missing === 'string') {
      const known = objectAt(part, 'properties');
      const slip = Object.keys(data as object).find(
        (key) => !Object.hasOwn(known, key) && meantWord(key, [missing]) === missing,
      );
      if (slip !== undefined) return unknownKey(slip, at, part);
      const place = pointerTo(at, missing);
      return withHint(
        { message: `${labelOf(place)} is required`, pointer: place },
        meaning(resolve(known[missing]), place),
      );
    }
    if (error.keyword === THIS_VERSION) {
      const hint = error.schema === false ? 'Remove it.' : 'Remove it, or give it a value this version runs.';
      return { message: `${label} is not in this version`, pointer: at, hint };
    }
    if (error.propertyName !== undefined) {
      const place = pointerTo(at, error.propertyName);
      return withHint(
        { message: `${error.propertyName} in ${label} ${complaint(error)}`, pointer: place },
        meaning(part, ''),
      );
    }
    const nearest = typeof data === 'string' ? meantWord(data, textsOf(params['allowedValues'])) : undefined;
    const hint = nearest === undefined ? meaning(part, at) : `Did you mean ${nearest}?`;
    return withHint({ message: `${label} ${complaint(error)}`, pointer: at }, hint);
  };
}

/** The known word that was probably meant: misspelled, or cut short or drawn out as `maximum` for `max`. */
function meantWord(word: string, known: readonly string[]): string | undefined {
  const isPart = (short: string, long: string): boolean =>
    short.length >= 3 && long.toLowerCase().startsWith(short.toLowerCase());
  return nearestWord(word, known) ?? known.find((each) => isPart(each, word) || isPart(word, each));
}

/** Types of JSON in the words of who writes YAML. */
const KINDS: Readonly<Record<string, string>> = {
  integer: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  object: 'a mapping of keys',
  array: 'a list',
};

function complaint({ keyword, params, parentSchema, data, message }: ErrorObject): string {
  switch (keyword) {
    case 'type':
      return `must be ${[params['type'] as string | string[]]
        .flat()
        .map((type) => KINDS[type] ?? type)
        .join(' or ')}, not ${kindOf(data)}`;
    case 'minimum':
      return `must be at least ${params['limit']}, not ${String(data)}`;
    case 'maximum':
      return `must be at most ${params['limit']}, not ${String(data)}`;
    case 'enum':
      return `must be one of ${textsOf(params['allowedValues']).join(', ')}`;
    case 'minLength':
      return 'must not be empty';
    case 'maxLength':
      return `must not be longer than ${params['limit']} characters`;
    case 'maxItems':
      return `must not have more than ${params['limit']} items`;
    case 'uniqueItems':
      return `has the same item twice, as ${params['j']} and ${params['i']}`;
    case 'pattern':
      return `is not ${textAt(parentSchema, 'title') ?? `written as ${params['pattern']}`}`;
    default:
      return message ?? `breaks ${keyword}`;
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') return String(value);
  return typeof value === 'object' ? 'a mapping of keys' : (KINDS[typeof value] ?? typeof value);
}

/** `services.db.url` for a pointer to it, wherever its `x-funcatron` stands; `x-funcatron` for that itself. */
function labelOf(pointer: string): string {
  const tokens = pointerTokens(pointer);
  return tokens.slice(tokens.lastIndexOf('x-funcatron') + 1).join('.') || 'x-funcatron';
}

/** As YAML writes it in one line. */
function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (isObject(value)) {
    const members = Object.entries(value).map(([key, member]) => `${key}: ${flow(member)}`);
    return `{ ${members.join(', ')} }`;
  }
  return typeof value === 'string' && /^[\w./:*-]+$/.test(value) ? value : JSON.stringify(value);
}

function isSame(definition: unknown, object: unknown): boolean {
  return memberOf(definition, 'properties') === memberOf(object, 'properties');
}

function textsOf(values: unknown): readonly string[] {
  return Array.isArray(values) ? values.filter((value) => typeof value === 'string') : [];
}

function withHint(problem: Problem, hint: string | undefined): Problem {
  return hint === undefined ? problem : { ...problem, hint };
}
