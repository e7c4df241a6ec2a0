import type { Api, ApiMedia, ApiOperation, ApiParameter, Json, JsonObject, JsonSchema } from '../core/openapi/api.ts';
import { hostName } from '../core/openapi/router.ts';
import { definitionsOf } from '../core/openapi/schema.ts';
import { VERSION } from '../core/version.ts';
import type { Revision } from './revision.ts';
import type { RouteTable } from './route-table.ts';

/** Gives what `mergeDocuments` makes of a route table as JSON, and makes it once for the same revisions and host. */
export type MergedDocuments = (table: RouteTable | undefined, host: string | undefined) => string;

/** Keeps the documents of the newest revisions it was asked for: as many as its bundles name hosts, and one for all others. */
export function createMergedDocuments(): MergedDocuments {
  let newest: readonly Revision[] = [];
  const texts = new Map<string, string>();
  return (table, host) => {
    const revisions = table?.revisions ?? [];
    if (revisions !== newest) texts.clear();
    newest = revisions;
    const wanted = host === undefined ? '' : hostName(host);
    // Clients write what they like into Host: only hosts of bundles get a document of their own.
    const known = revisions.some((revision) => revision.host !== undefined && hostName(revision.host) === wanted);
    const key = known ? wanted : '';
    const text = texts.get(key) ?? JSON.stringify(mergeDocuments(revisions, host));
    texts.set(key, text);
    return text;
  };
}

/**
 * One OpenAPI 3.1 document of all live bundles that answer this host. Operations are tagged with their bundle and
 * named `<bundle>.<operationId>`; a bundle's schemas are named the same way, so that those of two bundles never mix.
 */
export function mergeDocuments(revisions: readonly Revision[], host: string | undefined): JsonObject {
  const wanted = host === undefined ? undefined : hostName(host);
  const answering = revisions.filter((revision) => revision.host === undefined || hostName(revision.host) === wanted);
  const paths: Record<string, Record<string, Json>> = {};
  const schemas: Record<string, Json> = {};
  const tags: Json[] = [];
  for (const { bundle, record } of answering) {
    const { api } = record;
    tags.push({ name: bundle, description: `${api.title} ${api.version} (revision ${record.revision})` });
    for (const [name, schema] of Object.entries(definitionsOf(api))) {
      schemas[`${bundle}.${name}`] = translate(schema, bundle, api.dialect);
    }
    for (const operation of api.operations) {
      if (!operation.http) continue;
      const item = (paths[api.basePath + operation.path] ??= {});
      item[operation.method.toLowerCase()] ??= describeOperation(operation, bundle, api);
    }
  }
  return { openapi: '3.1.0', info: { title: 'Live bundles', version: VERSION }, tags, paths, components: { schemas } };
}

function describeOperation(operation: ApiOperation, bundle: string, api: Api): JsonObject {
  const { summary, parameters, body } = operation;
  const content = (media: Readonly<Record<string, ApiMedia>>): Json => describeContent(media, bundle, api.dialect);
  return {
    tags: [bundle],
    operationId: `${bundle}.${operation.operationId}`,
    ...(summary === undefined ? {} : { summary }),
    parameters: parameters.map((parameter) => describeParameter(parameter, bundle, api.dialect)),
    ...(body === undefined ? {} : { requestBody: { required: body.required, content: content(body.content) } }),
    responses: Object.fromEntries(
      Object.entries(operation.responses).map(([status, response]) => [
        status,
        { description: status, content: content(response.content) },
      ]),
    ),
  };
}

function describeParameter(parameter: ApiParameter, bundle: string, dialect: Api['dialect']): JsonObject {
  const { name, required, style, explode } = parameter;
  const schema = translate(parameter.schema, bundle, dialect);
  const place = { name, in: parameter.in, required };
  if (parameter.json === true) return { ...place, content: { 'application/json': { schema } } };
  // Swagger 2.0's tab-separated lists have no style in OpenAPI 3.
  return { ...place, ...(style === 'tabDelimited' ? {} : { style, explode }), schema };
}

function describeContent(
  content: Readonly<Record<string, ApiMedia>>,
  bundle: string,
  dialect: Api['dialect'],
): JsonObject {
  return Object.fromEntries(
    Object.entries(content).map(([type, media]) => [
      type,
      media.schema === undefined ? {} : { schema: translate(media.schema, bundle, dialect) },
    ]),
  );
}

/** A schema as OpenAPI 3.1 writes it: references to the bundle's own names, draft 4's spellings replaced. */
function translate(value: Json | JsonSchema, bundle: string, dialect: Api['dialect']): Json {
  if (Array.isArray(value)) return value.map((item: Json) => translate(item, bundle, dialect));
  if (typeof value !== 'object' || value === null) return value;
  const schema: Record<string, Json> = {};
  for (const [key, member] of Object.entries(value as JsonObject)) {
    schema[key] =
      key === '$ref' && typeof member === 'string'
        ? `#/components/schemas/${bundle}.${member.slice(member.lastIndexOf('/') + 1)}`
        : translate(member, bundle, dialect);
  }
  return dialect === 'draft-04' ? modernise(schema) : schema;
}

function modernise(schema: Record<string, Json>): Json {
  for (const [flag, limit] of [
    ['exclusiveMinimum', 'minimum'],
    ['exclusiveMaximum', 'maximum'],
  ] as const) {
    if (typeof schema[flag] !== 'boolean') continue;
    const bound = schema[limit];
    if (schema[flag] && bound !== undefined) {
      schema[flag] = bound;
      delete schema[limit];
    } else {
      delete schema[flag];
    }
  }
  if (schema['nullable'] === true && typeof schema['type'] === 'string') schema['type'] = [schema['type'], 'null'];
  delete schema['nullable'];
  return schema;
}
