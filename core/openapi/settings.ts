import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Problem } from '../errors.ts';
import type { Json, JsonObject } from './api.ts';
import { isObject } from './json.ts';
import { createSettingDescriber, THIS_VERSION } from './setting-problems.ts';

/** Settings with their defaults filled in, and what is wrong with them. */
export interface SettingsReading {
  readonly value: JsonObject;
  readonly problems: readonly Problem[];
}

/** Reads `value` by one definition of the schema; pointers of problems begin with `pointer`. */
export type SettingsReader = (definition: string, value: Json | undefined, pointer: string) => SettingsReading;

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
  const describe = createSettingDescriber(schema);
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
    const problems = new Map<string, Problem>();
    for (const error of telling) {
      const problem = describe(error, pointer);
      // A misspelled key is one that is not known, and one that is missing.
      problems.set(`${problem.pointer} ${problem.message}`, problem);
    }
    return { value: isObject(copy) ? copy : {}, problems: [...problems.values()] };
  };
}
