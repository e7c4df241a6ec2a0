import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Problem } from '../errors.ts';
import type { Json, JsonObject } from './api.ts';
import { isObject, memberOf, pointerTo, pointerTokens, valueAt } from './json.ts';
import { nearestWord } from './nearest.ts';
import { describeErrors } from './violations.ts';

/** Settings with their defaults filled in, and what is wrong with them. */
export interface SettingsReading {
  readonly value: JsonObject;
  readonly problems: readonly Problem[];
}

/** Reads `value` by one definition of the schema; pointers of problems begin with `pointer`. */
export type SettingsReader = (definition: string, value: Json | undefined, pointer: string) => SettingsReading;

/** The keyword that says what of a key this version runs: a schema, or `false` for nothing. */
const THIS_VERSION = 'x-thisVersion';

/**
 * A reader for settings whose schema is the complete list of its keys: a key not in it is refused with the nearest
 * one, and what `x-thisVersion` does not accept is refused as not in this version.
 */
export function createSettingsReader(schema: JsonObject): SettingsReader {
  const ajv = new Ajv2020({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    strict: false,
    logger: false,
    validateSchema: false,
  });
  ajv.addKeyword({
    keyword: THIS_VERSION,
    compile: (accepted: JsonObject | boolean) => {
      const validate = ajv.compile(accepted);
      return (value: unknown) => validate(value);
    },
  });
  ajv.addSchema(schema, 'settings');
  return (definition, value, pointer) => {
    const copy = structuredClone(value ?? {}) as Json;
    const validate = ajv.getSchema(`settings#/$defs/${definition}`);
    if (validate === undefined) throw new TypeError(`the schema defines no ${definition}`);
    if (validate(copy)) return { value: isObject(copy) ? copy : {}, problems: [] };
    // `propertyNames` only says that one of its own keywords failed.
    const errors = (validate.errors ?? []).filter((error) => error.keyword !== 'propertyNames');
    const wrong = new Set(errors.filter((error) => error.keyword !== THIS_VERSION).map((error) => error.instancePath));
    // A value no version takes is not "not in this version".
    const telling = errors.filter((error) => error.keyword !== THIS_VERSION || !wrong.has(error.instancePath));
    const problems = telling.map((error): Problem => {
      const at = pointer + error.instancePath;
      const key = pointerTokens(error.instancePath).join('.');
      if (error.keyword === THIS_VERSION) return notInThisVersion(key, valueAt(copy, error.instancePath), at);
      const surplus: unknown = error.params['additionalProperty'];
      if (typeof surplus === 'string') return unknownKey(surplus, keysOf(error.parentSchema), pointerTo(at, surplus));
      const [described] = describeErrors([error], pointer);
      const missing: unknown = error.params['missingProperty'];
      const named = typeof missing === 'string' && key !== '' ? `${key}.${missing}` : key;
      const nearest = nearestOf(error.data, error.params['allowedValues']);
      return {
        message: `${named === '' ? 'x-funcatron' : named} ${described?.message ?? 'is not valid'}`,
        pointer: described?.pointer ?? at,
        ...(nearest === undefined ? {} : { hint: `Did you mean ${nearest}?` }),
      };
    });
    return { value: isObject(copy) ? copy : {}, problems };
  };
}

function nearestOf(value: unknown, allowed: unknown): string | undefined {
  if (typeof value !== 'string' || !Array.isArray(allowed)) return undefined;
  const words = allowed.filter((word): word is string => typeof word === 'string');
  return nearestWord(value, words);
}

function keysOf(schema: unknown): readonly string[] {
  return Object.keys(memberOf(schema, 'properties') ?? {});
}

function notInThisVersion(key: string, value: unknown, pointer: string): Problem {
  const shown = typeof value === 'string' || typeof value === 'number' ? ` ${value}` : '';
  return {
    message: `${key}${shown} is not in this version`,
    pointer,
    hint: `Remove ${key}, or give it a value this version runs.`,
  };
}

function unknownKey(key: string, known: readonly string[], pointer: string): Problem {
  const nearest = nearestWord(key, known);
  const hint = nearest === undefined ? 'swagger/funcatron.schema.json lists every key.' : `Did you mean ${nearest}?`;
  return { message: `${key} is not a key of x-funcatron`, pointer, hint };
}
