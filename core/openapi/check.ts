import type { ErrorObject } from 'ajv';
import type { Problem } from '../errors.ts';
import type { JsonObject } from './api.ts';
import { editionValidator } from './edition-schema.ts';
import { memberOf, objectAt, pointerTokens, valueAt } from './json.ts';
import { nearestWord } from './nearest.ts';
import { describeErrors } from './violations.ts';

/** The editions of the specification a document can be written in. */
export type Edition = '2.0' | '3.0' | '3.1';

/** Which edition a document says it follows, or the problem with what it says. */
export function editionOf(document: JsonObject): Edition | Problem {
  const swagger = memberOf(document, 'swagger');
  if (swagger !== undefined) {
    if (swagger === '2.0') return '2.0';
    const hint = 'Write swagger: "2.0", in quotes.';
    return { message: `swagger ${JSON.stringify(swagger)} is not a version that is read`, pointer: '/swagger', hint };
  }
  const openapi = memberOf(document, 'openapi');
  if (typeof openapi === 'string' && /^3\.0\.\d+$/.test(openapi)) return '3.0';
  if (typeof openapi === 'string' && /^3\.1\.\d+$/.test(openapi)) return '3.1';
  const hint = 'Write swagger: "2.0", openapi: 3.0.3 or openapi: 3.1.0.';
  if (openapi === undefined) return { message: 'says neither swagger nor openapi', pointer: '', hint };
  const known = /^"?3\.2\b/.test(JSON.stringify(openapi)) ? 'not in this version' : 'not a version that is read';
  return { message: `openapi ${JSON.stringify(openapi)} is ${known}`, pointer: '/openapi', hint };
}

/**
 * Holds a document against the JSON Schema of its edition. The document is not dereferenced first: pointers stay those
 * of the text, a reference bomb stays small, and nothing is ever fetched.
 */
export function checkEdition(document: JsonObject, edition: Edition): readonly Problem[] {
  const problems: Problem[] = [];
  // The schema knows patch releases of one digit; they only mend the text. A document without paths is told so later.
  const openapi = edition === '2.0' ? {} : { openapi: `${edition}.0` };
  const checked: Record<string, unknown> = { paths: {}, ...document, ...openapi };
  const info = objectAt(document, 'info');
  const version = memberOf(info, 'version');
  if (typeof version === 'number') {
    const hint = `Write version: "${version}", in quotes.`;
    problems.push({ message: `version ${version} is a number, not text`, pointer: '/info/version', hint });
    checked['info'] = { ...info, version: String(version) };
  }
  const validate = editionValidator(edition);
  if (!validate(checked)) problems.push(...narrow(document, validate.errors ?? []));
  return problems;
}

/** Keywords whose error only says that some branch failed; the branches' own errors say which and why. */
const SUMMARIES: ReadonlySet<string> = new Set([
  'oneOf',
  'anyOf',
  'not',
  'if',
  'dependentSchemas',
  'unevaluatedProperties',
]);

/** Most errors that are compared with one another, which is quadratic. */
const MAX_ERRORS = 1_000;

/**
 * One typing mistake yields a dozen errors, one for each branch it fails in. What helps stays: at each pointer the
 * most telling one, and nothing about an object around a member that is itself at fault.
 */
function narrow(document: JsonObject, found: readonly ErrorObject[]): readonly Problem[] {
  const errors = found.slice(0, MAX_ERRORS);
  const byPointer = new Map<string, ErrorObject[]>();
  const mistaken = mistakenBranches(errors);
  for (const error of errors) {
    // What other branches would have required is no news once a member has a value none of them knows.
    if (error.keyword === 'required' && mistaken.some((branches) => error.schemaPath.startsWith(branches))) continue;
    // "Not a reference either" helps nobody.
    if (error.keyword === 'required' && error.params['missingProperty'] === '$ref') continue;
    const list = byPointer.get(error.instancePath);
    if (list === undefined) byPointer.set(error.instancePath, [error]);
    else list.push(error);
  }
  const pointers = [...byPointer.keys()];
  const problems: Problem[] = [];
  for (const [pointer, list] of byPointer) {
    const telling = list.filter((error) => !SUMMARIES.has(error.keyword));
    if (pointers.some((other) => other.startsWith(`${pointer}/`)) && telling.length === 0) continue;
    problems.push(describe(document, pointer, telling.length > 0 ? telling : list));
  }
  return problems;
}

/** The schema paths of branches that failed because of a value that is in none of their enums. */
function mistakenBranches(errors: readonly ErrorObject[]): readonly string[] {
  const branches = errors.filter((error) => error.keyword === 'oneOf' || error.keyword === 'anyOf');
  const enums = errors.filter((error) => error.keyword === 'enum' || error.keyword === 'const');
  return branches
    .map((error) => `${error.schemaPath}/`)
    .filter((path) => enums.some((error) => error.schemaPath.startsWith(path)));
}

/** Branches disagree about what is allowed: their enums are joined, so that the nearest word can be found in all. */
function describe(document: JsonObject, pointer: string, errors: readonly ErrorObject[]): Problem {
  const enums = errors.filter((error) => error.keyword === 'enum' || error.keyword === 'const');
  const allowed = [
    ...new Set(enums.flatMap((error): unknown[] => error.params['allowedValues'] ?? [error.params['allowedValue']])),
  ].map(String);
  const name = pointerTokens(pointer).at(-1) ?? 'the document';
  if (allowed.length > 0) {
    const found = valueAt(document, pointer);
    const value = typeof found === 'string' ? found : JSON.stringify(found);
    const nearest = nearestWord(value, allowed);
    return {
      message: `${name} ${value} is not one of ${allowed.join(', ')}`,
      pointer,
      ...(nearest === undefined ? {} : { hint: `Did you mean ${nearest}?` }),
    };
  }
  const surplus = errors.find((error) => 'additionalProperty' in error.params);
  const missing = errors.find((error) => error.keyword === 'required');
  const [first] = describeErrors(
    [missing ?? surplus ?? errors[0]].filter((each) => each !== undefined),
    '',
  );
  const place = first?.pointer ?? pointer;
  return { message: `${pointerTokens(place).at(-1) ?? name} ${first?.message ?? 'is not valid'}`, pointer: place };
}
