import draft04 from 'ajv-draft-04';
import type { Ajv, AnySchema, Options, ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Problem } from '../errors.ts';
import type { Api, Json, JsonObject } from './api.ts';
import { addFormats } from './formats.ts';
import { isObject } from './json.ts';
import { compilePattern } from './pattern.ts';
import { describeErrors } from './violations.ts';
import { definitionsOf, DEFINITIONS_ID, type Direction, prepareSchema } from './schema.ts';

/**
 * Most definitions one check may walk through. A document of a few lines can ask for 2ⁿ of them: definitions that
 * include the next one twice, or a recursive one with two branches over a deeply nested body.
 */
const MAX_STEPS = 100_000;

let steps = 0;

/** Thrown out of a validator that would run too long; `run` makes an ordinary violation of it. */
class TooComplex extends Error {
  override readonly name = 'TooComplex';
}

/** The violations of a value, with pointers that begin with `prefix`; `undefined` when there are none. */
export type Check = (value: unknown, prefix: string) => readonly Problem[] | undefined;

/** Compiles schemas of one document, for one direction. */
export interface SchemaCompiler {
  /** `schema` as it stands in the Api. */
  compile(schema: Json): Check;
}

/**
 * A compiler over the definitions of a document. `coerce` turns text into what the schema asks for and fills in
 * defaults: for parameters and forms, never for JSON. It changes the value it checks. Creating one costs a few
 * milliseconds, each schema about one more; both belong in a process that runs no guest.
 */
export function createSchemaCompiler(
  api: Pick<Api, 'dialect' | 'definitions'>,
  direction: Direction,
  coerce: boolean,
): SchemaCompiler {
  const ajv = createAjv(api.dialect, coerce);
  const definitions: Record<string, JsonObject> = {};
  for (const [name, schema] of Object.entries(definitionsOf(api))) {
    // The step comes first, so that a chain of definitions stops before it does its work.
    definitions[name] = { allOf: [{ [STEP]: true }, prepareSchema(schema, api.dialect, direction)] };
  }
  ajv.addSchema({ definitions }, DEFINITIONS_ID);
  return {
    compile(schema) {
      const validate = ajv.compile(prepareSchema(schema, api.dialect, direction) as AnySchema);
      const twice = coerce && isCombined(schema);
      return (value, prefix) => {
        // Coercion changes values while they are checked, and a check beside a reference or a combination may still
        // have looked at the text: the second pass looks at what the func will see.
        if (twice) run(validate, value);
        const passed = run(validate, value);
        if (passed === true) return undefined;
        if (passed === 'too complex') return [{ message: 'is nested too deeply to be checked', pointer: prefix }];
        return describeErrors(validate.errors ?? [], prefix);
      };
    },
  };
}

/**
 * Whether a value passes, at the cost of at most a bounded number of steps; the violations are in `validate.errors`.
 * Anything that would run for ever or too deep counts as not passing, with `'too complex'`.
 */
function run(validate: ValidateFunction, value: unknown): boolean | 'too complex' {
  steps = 0;
  try {
    return validate(value);
  } catch (error) {
    if (error instanceof TooComplex || error instanceof RangeError) return 'too complex';
    throw error;
  }
}

function isCombined(schema: Json): boolean {
  if (Array.isArray(schema)) return (schema as readonly Json[]).some(isCombined);
  if (!isObject(schema)) return false;
  return Object.entries(schema).some(([key, value]) => COMBINATIONS.has(key) || isCombined(value));
}

const COMBINATIONS: ReadonlySet<string> = new Set(['$ref', 'allOf', 'anyOf', 'oneOf', 'if']);

let dialectCheck: Ajv | undefined;

/**
 * Holds a 3.1 schema against the meta-schema of JSON Schema 2020-12; the schemas of 2.0 and 3.0 are part of their
 * edition's own. Pointers of problems begin with `pointer`.
 */
export function checkDialect(schema: Json, pointer: string): readonly Problem[] {
  // Compiling the meta-schema takes 50 ms, once in a process.
  dialectCheck ??= new Ajv2020({ strict: false, allErrors: true, logger: false, validateFormats: false });
  if (dialectCheck.validateSchema(schema as AnySchema) === true) return [];
  const errors = (dialectCheck.errors ?? []).filter((error) => error.keyword !== 'anyOf' && error.keyword !== 'oneOf');
  return describeErrors(errors, pointer);
}

const STEP = 'x-step';

function createAjv(dialect: Api['dialect'], coerce: boolean): Ajv {
  const options: Options = {
    strict: false,
    allErrors: true,
    // The loader has held the schemas against their dialect; compiling its meta-schema takes 50 ms each time.
    validateSchema: false,
    meta: false,
    logger: false,
    coerceTypes: coerce ? 'array' : false,
    useDefaults: coerce,
    code: { regExp: Object.assign(compilePattern, { code: 'compilePattern' }) },
  };
  const ajv = dialect === '2020-12' ? new Ajv2020(options) : new draft04.default(options);
  addFormats(ajv);
  ajv.addKeyword({ keyword: STEP, validate: countStep, errors: false });
  // ajv compares every pair: 100 000 objects in a body of 1 MiB would take minutes.
  ajv.removeKeyword('uniqueItems');
  ajv.addKeyword({ keyword: 'uniqueItems', type: 'array', schemaType: 'boolean', compile: compileUniqueItems });
  return ajv;
}

function countStep(): boolean {
  if (++steps > MAX_STEPS) throw new TooComplex();
  return true;
}

function compileUniqueItems(unique: boolean): (items: readonly unknown[]) => boolean {
  return unique ? hasUniqueItems : () => true;
}

function hasUniqueItems(items: readonly unknown[]): boolean {
  const seen = new Set<unknown>();
  for (const item of items) {
    // The quote keeps the text "1" apart from the number 1, and text apart from canonical JSON.
    const identity =
      typeof item === 'object' && item !== null ? canonical(item) : typeof item === 'string' ? `"${item}` : item;
    if (seen.has(identity)) return false;
    seen.add(identity);
  }
  return true;
}

/** JSON with sorted keys: equal texts are equal values. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
