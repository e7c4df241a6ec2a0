import { readFile, realpath } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FuncatronError, type Problem } from '../errors.ts';
import type { Json, JsonObject } from './api.ts';
import { parseDocument, refusal, type SourceDocument } from './document.ts';
import { editionOf } from './check.ts';
import { isObject, memberOf, pointerTo, refPointer, textAt } from './json.ts';

/** What ref-parser hands to resolvers and parsers. */
interface ReferencedFile {
  readonly url: string;
  readonly data?: unknown;
}

/**
 * A bundle's document with the files it refers to brought in, as JSON text; the text as it is where it refers to none.
 * Runs on the author's machine: reads files of `folder` and nothing else, neither through links nor over the network.
 * Throws `INVALID_BUNDLE` for what cannot be read, with its place in the file that refers to it.
 */
export async function bundleRefs(folder: string, file: string): Promise<string> {
  const root = await realpath(folder);
  const text = await readFile(join(root, file), 'utf8');
  const source = parseDocument(text, file);
  // Without an edition and paths there is nothing to bring together; the loader says what is missing.
  const isDocument = typeof editionOf(source.value) === 'string' && memberOf(source.value, 'paths') !== undefined;
  if (!checkReferences(source, file) || !isDocument) return text;
  // Most documents refer to no file, and loading it takes longer than reading them.
  const { default: SwaggerParser } = await import('@apidevtools/swagger-parser');
  // ref-parser wraps what its plug-ins throw in errors of its own, which name absolute paths.
  let refused: FuncatronError | undefined;
  const keepRefusal = (error: unknown): never => {
    if (error instanceof FuncatronError) refused ??= error;
    throw error;
  };
  const readers = {
    order: 1,
    canRead: true,
    read: (referenced: ReferencedFile) => readInside(root, referenced.url).catch(keepRefusal),
    parse: (referenced: ReferencedFile) => parseReferenced(root, referenced).catch(keepRefusal),
  };
  try {
    // The value is cloned because ref-parser writes into what it is given.
    const bundled = await SwaggerParser.bundle(join(root, file), structuredClone(source.value) as never, {
      resolve: { file: readers, http: false },
      parse: { json: false, yaml: false, text: false, binary: false, document: readers },
    });
    return `${JSON.stringify(bundled, null, 2)}\n`;
  } catch (error) {
    if (refused !== undefined) throw refused;
    const message = error instanceof Error ? error.message : String(error);
    const hint = 'A $ref is a path relative to the file it stands in, then # and a pointer: ./schemas.yaml#/Order';
    throw refusal(file, { message: `its references cannot be resolved: ${message}`, file, hint });
  }
}

async function readInside(root: string, url: string): Promise<string> {
  const path = url.startsWith('file:') ? fileURLToPath(url) : decodeURIComponent(url);
  const name = relative(root, path);
  let real: string;
  try {
    real = await realpath(path);
  } catch {
    // Whatever keeps it from being read, the author has to look at that file.
    const hint = 'A $ref is a path relative to the file it stands in.';
    throw refusal(name, { message: `$ref ${name} leads to a file that is not there`, file: name, hint });
  }
  if (!real.startsWith(root + sep)) {
    const hint = 'Copy the file into the bundle.';
    throw refusal(name, { message: `$ref ${name} leads out of the bundle's folder`, file: name, hint });
  }
  return readFile(real, 'utf8');
}

/** One YAML dialect for all files, with our limits. */
async function parseReferenced(root: string, { url, data }: ReferencedFile): Promise<JsonObject> {
  const name = relative(root, url.startsWith('file:') ? fileURLToPath(url) : decodeURIComponent(url));
  const source = parseDocument(String(data), name);
  checkReferences(source, name);
  return source.value;
}

/** Whether a document refers to other files; throws where it refers to a URL. */
function checkReferences(source: SourceDocument, file: string): boolean {
  let found = false;
  const problems: Problem[] = [];
  const walk = (value: Json, pointer: string): void => {
    const ref = textAt(value, '$ref');
    if (ref !== undefined && refPointer(ref) === undefined) {
      found = true;
      if (/^(?:[a-z][a-z0-9+.-]*:|\/\/)/i.test(ref)) {
        const at = pointerTo(pointer, '$ref');
        const hint = 'Copy what it refers to into the bundle.';
        problems.push({ message: `$ref ${ref} is a URL`, pointer: at, file, ...source.locate(at), hint });
      }
    }
    if (Array.isArray(value)) {
      for (const [index, item] of (value as readonly Json[]).entries()) walk(item, pointerTo(pointer, index));
    } else if (isObject(value)) {
      for (const [key, member] of Object.entries(value)) walk(member, pointerTo(pointer, key));
    }
  };
  walk(source.value, '');
  if (problems.length > 0) throw refusal(file, ...problems);
  return found;
}
