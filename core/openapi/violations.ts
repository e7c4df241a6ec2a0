import type { ErrorObject } from 'ajv';
import type { Problem } from '../errors.ts';
import { pointerTo } from './json.ts';

/** Most violations one answer lists; a hostile list of 100 000 bad items is not sent back. */
const MAX_VIOLATIONS = 100;

/** ajv's errors as problems, each pointer and message once, in the order found. */
export function describeErrors(errors: readonly ErrorObject[], prefix: string): readonly Problem[] {
  const problems = new Map<string, Problem>();
  for (const error of errors) {
    if (problems.size >= MAX_VIOLATIONS) break;
    // The condition a discriminator stands for; the branch's own violations follow it.
    if (error.keyword === 'if') continue;
    const problem = { message: messageOf(error), pointer: prefix + pointerOf(error) };
    problems.set(`${problem.pointer} ${problem.message}`, problem);
  }
  return [...problems.values()];
}

/** Missing and surplus members are pointed at themselves, not at the object around them. */
function pointerOf(error: ErrorObject): string {
  const { missingProperty, additionalProperty, unevaluatedProperty } = error.params as Record<string, unknown>;
  const member = missingProperty ?? additionalProperty ?? unevaluatedProperty;
  return typeof member === 'string' ? pointerTo(error.instancePath, member) : error.instancePath;
}

function messageOf(error: ErrorObject): string {
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'required':
      return 'is required';
    case 'additionalProperties':
    case 'unevaluatedProperties':
      return 'is not allowed';
    case 'enum': {
      const allowed: readonly unknown[] = Array.isArray(params['allowedValues']) ? params['allowedValues'] : [];
      return `must be one of ${allowed.map((each) => JSON.stringify(each)).join(', ')}`;
    }
    case 'const':
      return `must be ${JSON.stringify(params['allowedValue'])}`;
    case 'uniqueItems':
      return 'must not hold the same item twice';
    case 'pattern':
      return `must match pattern ${String(params['pattern'])}`;
    case 'format':
      return `must be a valid ${String(params['format'])}`;
    default:
      return error.message ?? `breaks ${error.keyword}`;
  }
}
