import type { Problem } from '../errors.ts';
import type { ApiOperation, JsonObject } from './api.ts';
import { isObject, listAt, memberOf, objectAt, pointerTo, textAt } from './json.ts';
import type { OperationSite } from './model.ts';
import { nearestWord } from './nearest.ts';
import { parseTemplate, templateKey } from './template.ts';

/** Routing keys of RabbitMQ have room for this many. Protocol §2.3. */
const OPERATION_ID = /^[A-Za-z0-9_.-]{1,150}$/;
const EXTENSION = 'x-funcatron';
/** Exports that are no funcs. */
const RESERVED = new Set(['init', 'destroy', 'providers', 'default', '__esModule']);

/** What is wrong with an operation beyond the specification's own schema. */
export function lintOperation(site: OperationSite, operation: ApiOperation, exports?: readonly string[]): Problem[] {
  return [...lintId(site, operation), ...lintHandler(site, operation, exports), ...lintPathParameters(site)];
}

function lintId(site: OperationSite, { operationId }: ApiOperation): readonly Problem[] {
  const pointer = pointerTo(site.pointer, 'operationId');
  if (memberOf(site.operation, 'operationId') === undefined) {
    const hint = 'Add operationId: the name of the export that answers it.';
    return [{ message: `${site.method} ${site.path} has no operationId`, pointer: site.pointer, hint }];
  }
  if (OPERATION_ID.test(operationId)) return [];
  const hint = 'Use at most 150 of A-Z a-z 0-9 _ . -';
  return [{ message: `operationId ${operationId} cannot be used in a routing key`, pointer, hint }];
}

function lintHandler(
  site: OperationSite,
  { handler, operationId }: ApiOperation,
  exports?: readonly string[],
): Problem[] {
  if (handler === '') return [];
  const own = memberOf(memberOf(site.operation, 'x-funcatron'), 'handler') !== undefined;
  const pointer = own ? pointerTo(site.pointer, 'x-funcatron', 'handler') : pointerTo(site.pointer, 'operationId');
  if (RESERVED.has(handler)) {
    const hint = 'Name the export with x-funcatron.handler.';
    return [{ message: `${handler} is not the name of a func: the export means something else`, pointer, hint }];
  }
  if (exports === undefined || exports.includes(handler)) return [];
  const nearest = nearestWord(handler, exports);
  const known = exports.length === 0 ? 'it exports nothing' : `it exports ${exports.slice(0, 20).join(', ')}`;
  const hint =
    nearest === undefined
      ? `export const ${operationId} = …, or name another with x-funcatron.handler.`
      : `Did you mean ${nearest}?`;
  return [{ message: `the code does not export ${handler}: ${known}`, pointer, hint }];
}

function lintPathParameters(site: OperationSite): readonly Problem[] {
  const problems: Problem[] = [];
  const { names } = parseTemplate(site.path);
  const declared = site.parameters.filter(({ value }) => textAt(value, 'in') === 'path');
  const known = declared.map(({ value }) => textAt(value, 'name') ?? '');
  for (const name of names) {
    if (known.includes(name)) continue;
    const nearest = nearestWord(name, known);
    const hint = nearest === undefined ? `Add a parameter ${name} with in: path.` : `Did you mean ${nearest}?`;
    problems.push({ message: `path parameter {${name}} is not declared`, pointer: site.pointer, hint });
  }
  for (const { value, pointer } of declared) {
    const name = textAt(value, 'name') ?? '';
    if (!names.includes(name)) {
      const hint = `Write {${name}} in the path, or remove the parameter.`;
      problems.push({ message: `path parameter ${name} is not in the path ${site.path}`, pointer, hint });
    }
  }
  return problems;
}

/** What is wrong between operations: ids used twice, paths that cannot be told apart or cannot be paths. */
export function lintPaths(document: JsonObject, sites: readonly OperationSite[], basePath: string): Problem[] {
  const problems: Problem[] = [];
  const keys = new Map<string, string>();
  for (const [path, item] of Object.entries(objectAt(document, 'paths'))) {
    if (path.startsWith('x-')) continue;
    const pointer = pointerTo('/paths', path);
    const template = parseTemplate(path);
    if (template.problem !== undefined) {
      const hint = 'Write a path such as /orders/{id}.';
      problems.push({ message: template.problem, pointer, hint });
    }
    const other = keys.get(templateKey(path));
    if (other !== undefined) {
      const hint = 'Merge the two paths into one.';
      problems.push({ message: `path ${path} cannot be told apart from ${other}`, pointer, hint });
    } else keys.set(templateKey(path), path);
    if (`${basePath}${path}/`.startsWith('/_funcatron/')) {
      problems.push({
        message: `path ${basePath}${path} belongs to the frontend`,
        pointer,
        hint: 'Choose a path outside /_funcatron/.',
      });
    }
    if (memberOf(item, 'x-funcatron') !== undefined) {
      const hint = 'Write it at the top of the document or under an operation.';
      problems.push({ message: 'x-funcatron means nothing here', pointer: pointerTo(pointer, 'x-funcatron'), hint });
    }
  }
  const ids = new Map<string, OperationSite>();
  for (const site of sites) {
    const id = textAt(site.operation, 'operationId');
    const other = id === undefined ? undefined : ids.get(id);
    if (id !== undefined && other === undefined) ids.set(id, site);
    if (other === undefined) continue;
    const message = `operationId ${id} is already that of ${other.method} ${other.path}`;
    problems.push({
      message,
      pointer: pointerTo(site.pointer, 'operationId'),
      hint: 'Give each operation an id of its own.',
    });
  }
  if (sites.length === 0) {
    const hint = 'For example paths: { /orders: { get: { operationId: getOrders } } }';
    problems.push({ message: 'the document declares no operation', pointer: '/paths', hint });
  }
  return problems;
}

/** What the document asks for and this version does not do, and so must not be silent about. */
export function lintUnenforced(document: JsonObject, sites: readonly OperationSite[]): readonly Problem[] {
  return [
    ...lintExtensions(document, ''),
    ...sites.flatMap((site) => lintExtensions(site.operation, site.pointer)),
    ...lintSecurity(document, sites),
  ];
}

/** Extensions of others are theirs; one that is nearly called as ours was probably meant to be it. */
function lintExtensions(value: JsonObject, pointer: string): readonly Problem[] {
  const meant = Object.keys(value).filter(
    (key) => key.startsWith('x-func') && key !== EXTENSION && nearestWord(key, [EXTENSION]) !== undefined,
  );
  return meant.map((key) => ({
    message: `${key} means nothing here`,
    pointer: pointerTo(pointer, key),
    hint: `Did you mean ${EXTENSION}?`,
  }));
}

function lintSecurity(document: JsonObject, sites: readonly OperationSite[]): readonly Problem[] {
  const hint = 'Check credentials in the func, or in a gateway in front of the frontend.';
  const message = 'security requirements are not enforced in this version: every client may call';
  const warnings: Problem[] = [];
  if (listAt(document, 'security').some(isDemanding)) warnings.push({ message, pointer: '/security', hint });
  for (const site of sites) {
    const pointer = pointerTo(site.pointer, 'security');
    if (listAt(site.operation, 'security').some(isDemanding)) warnings.push({ message, pointer, hint });
    if (memberOf(site.operation, 'servers') !== undefined) {
      const ignored = 'servers of an operation are ignored: the first of the document counts';
      warnings.push({ message: ignored, pointer: pointerTo(site.pointer, 'servers') });
    }
  }
  return warnings;
}

function isDemanding(requirement: unknown): boolean {
  return isObject(requirement) && Object.keys(requirement).length > 0;
}
