import { setImmediate } from 'node:timers/promises';
import type { Manifest } from '../bundle/manifest.ts';
import { type ManifestReading, readManifest } from '../bundle/read-manifest.ts';
import type { Problem } from '../errors.ts';
import type { Api, ApiOperation, JsonObject } from './api.ts';
import { checkEdition, type Edition, editionOf } from './check.ts';
import { compileAll } from './compile.ts';
import { documentHint } from './document-hint.ts';
import { parseDocument, refusal, type SourceDocument } from './document.ts';
import { objectAt, textAt } from './json.ts';
import { lintOperation, lintPaths, lintUnenforced } from './lint.ts';
import { buildOperation, type EditionReader, type ReaderContext, sitesOf } from './model.ts';
import { createOpenApi3Reader } from './openapi3.ts';
import { createSchemaCollector, findReferences } from './references.ts';
import { hostName } from './router.ts';
import { createSwagger2Reader } from './swagger2.ts';
import { parseTemplate } from './template.ts';

/** What a document says, once nothing is wrong with it. */
export interface LoadedApi {
  readonly api: Api;
  readonly manifest: Manifest;
  /** The document as plain JSON. */
  readonly document: JsonObject;
  /** What the document asks for and this version does not do. */
  readonly warnings: readonly Problem[];
}

export interface LoadOptions {
  /** Name of the file, for problems. */
  readonly file: string;
  /** Names the bundle's code exports; without them handlers are not checked. */
  readonly exports?: readonly string[];
  /** What the author wrote where `text` was made of it by `bundleRefs`: lines and columns are looked up there. */
  readonly original?: string;
}

/**
 * Reads a Swagger 2.0, OpenAPI 3.0 or 3.1 document in YAML or JSON. Reads nothing but `text`: references to files and
 * URLs are refused. Lets other work run between its steps: a document of 1 MiB takes seconds, and Tron has a lease to keep.
 * Throws `INVALID_BUNDLE` whose `data.problems` are all problems, each with pointer, file, line and column.
 */
export async function loadApi(text: string, options: LoadOptions): Promise<LoadedApi> {
  const parsed = parseDocument(text, options.file);
  const document = parsed.value;
  const source = options.original === undefined ? parsed : parseDocument(options.original, options.file);
  const edition = editionOf(document);
  if (typeof edition !== 'string') throw refuse(source, options.file, [edition]);
  try {
    return await loadEdition(document, edition, source, options);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = 'refers on from definition to definition too deeply to be read';
    const hint = 'Put schemas that refer to one another in a row into one.';
    throw refuse(source, options.file, [{ message, pointer: '/paths', hint }]);
  }
}

/** @throws INVALID_BUNDLE; RangeError where the stack does not suffice */
async function loadEdition(
  document: JsonObject,
  edition: Edition,
  source: SourceDocument,
  options: LoadOptions,
): Promise<LoadedApi> {
  await setImmediate();
  const problems: Problem[] = [...checkEdition(document, edition)];
  await setImmediate();
  problems.push(...findReferences(document));
  const reading = readManifest(document);
  problems.push(...reading.problems);
  const { api, warnings } = await buildApi(document, edition, reading, problems, options.exports);
  // A document with problems may hold schemas no compiler can take; one without must compile.
  if (problems.length === 0) problems.push(...(await compileAll(api)));
  if (problems.length > 0) throw refuse(source, options.file, problems);
  return {
    api,
    manifest: reading.manifest,
    document,
    warnings: warnings.map((each) => place(source, options.file, each)),
  };
}

async function buildApi(
  document: JsonObject,
  edition: Edition,
  reading: ManifestReading,
  problems: Problem[],
  exports: readonly string[] | undefined,
): Promise<{ readonly api: Api; readonly warnings: readonly Problem[] }> {
  const dialect = edition === '3.1' ? '2020-12' : 'draft-04';
  const home = edition === '2.0' ? '/definitions' : '/components/schemas';
  const schemas = createSchemaCollector(document, dialect, home, problems);
  const context: ReaderContext = { document, schemas, problems };
  const reader = edition === '2.0' ? createSwagger2Reader(context) : createOpenApi3Reader(context);
  const sites = sitesOf(document, problems);
  const basePath = readBasePath(reader, edition, problems);
  problems.push(...lintPaths(document, sites, basePath));
  const operations: ApiOperation[] = [];
  for (const site of sites) {
    await setImmediate();
    const settings = reading.operation(site.operation, site.pointer, problems);
    const operation = buildOperation(context, reader, site, settings);
    problems.push(...lintOperation(site, operation, exports));
    operations.push(operation);
  }
  const info = objectAt(document, 'info');
  const api: Api = {
    title: textAt(info, 'title') ?? '',
    version: textAt(info, 'version') ?? '',
    ...(reading.host === undefined ? {} : { host: hostName(reading.host) }),
    basePath,
    dialect,
    definitions: schemas.definitions(),
    operations,
  };
  return { api, warnings: lintUnenforced(document, sites) };
}

/** The base path with one slash in front and none at the end; templates and dot segments in it are refused. */
function readBasePath(reader: EditionReader, edition: Edition, problems: Problem[]): string {
  const declared = reader.basePath().replace(/\/+$/, '');
  if (declared === '') return '';
  const basePath = declared.startsWith('/') ? declared : `/${declared}`;
  const { names, problem } = parseTemplate(basePath);
  if (problem === undefined && names.length === 0) return basePath;
  const pointer = edition === '2.0' ? '/basePath' : '/servers/0/url';
  const hint = 'Write a plain path such as /shop.';
  problems.push({ message: problem ?? `base path ${basePath} has parameters`, pointer, hint });
  return '';
}

/** Most problems one answer lists: a generated document can have one on every line. */
const MAX_PROBLEMS = 500;

function refuse(source: SourceDocument, file: string, problems: readonly Problem[]): Error {
  const unique = new Map<string, Problem>();
  for (const problem of problems) unique.set(`${problem.pointer} ${problem.message}`, problem);
  const placed = [...unique.values()].map((problem) =>
    place(source, file, { ...problem, hint: problem.hint ?? documentHint(problem.pointer) }),
  );
  placed.sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
  const listed = placed.slice(0, MAX_PROBLEMS);
  if (listed.length < placed.length)
    listed.push({ message: `and ${placed.length - listed.length} more problems`, file });
  return refusal(file, ...listed);
}

function place(source: SourceDocument, file: string, problem: Problem): Problem {
  return { ...problem, file, ...source.locate(problem.pointer ?? '') };
}
