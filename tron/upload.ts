import { CODE_FILE, DOCUMENT_FILE, MAP_FILE, readArchive } from '../core/bundle/archive.ts';
import type { BundleRecord, Runtime } from '../core/bundle/manifest.ts';
import { FuncatronError, type Problem } from '../core/errors.ts';
import { loadApi } from '../core/openapi/load.ts';

const DOCUMENT_FILES: readonly string[] = [DOCUMENT_FILE, 'funcatron.yaml'];
const FILES: readonly string[] = [...DOCUMENT_FILES, CODE_FILE, MAP_FILE];

/** An uploaded bundle that was found good. */
export interface Upload {
  readonly record: Omit<BundleRecord, 'archiveBytes' | 'chunks'>;
  readonly packed: Buffer;
  readonly warnings: readonly Problem[];
}

/**
 * Takes in a packed bundle and judges it by its text alone: nothing of it is run, nothing is written.
 * @param digest what the content must be, when the sender said so
 * @throws INVALID_BUNDLE, PAYLOAD_TOO_LARGE, DIGEST_MISMATCH
 */
export async function receiveUpload(body: AsyncIterable<Uint8Array>, digest?: string): Promise<Upload> {
  const chunks: Uint8Array[] = [];
  async function* keeping(): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      chunks.push(chunk);
      yield chunk;
    }
  }
  const content = await readArchive(keeping());
  if (digest !== undefined && digest !== content.digest) {
    throw new FuncatronError('DIGEST_MISMATCH', `the bundle's digest is ${content.digest}, not ${digest}`, {
      data: { hint: 'pack the bundle again: it was changed or damaged on its way' },
    });
  }
  const { file, text } = readDocument(content.files);
  const { api, manifest, warnings } = await loadApi(text, { file });
  refuseOtherFiles(content.files, manifest.runtime);
  const { revision } = content;
  return {
    record: { digest: content.digest, revision, manifest, api, createdAt: Date.now() },
    packed: Buffer.concat(chunks),
    warnings,
  };
}

function readDocument(files: ReadonlyMap<string, Buffer>): { file: string; text: string } {
  const documents = DOCUMENT_FILES.filter((name) => files.has(name));
  const problems: Problem[] = [];
  const [file] = documents;
  if (file === undefined) problems.push({ message: `${DOCUMENT_FILE} is missing`, hint: PACK_HINT });
  if (documents.length > 1) problems.push({ message: `it has ${documents.join(' and ')}`, hint: 'keep one of them' });
  refuseFor(problems);
  return { file: file ?? '', text: files.get(file ?? '')?.toString() ?? '' };
}

/** Code of `js` is one file and its map; a program may bring any files. */
function refuseOtherFiles(files: ReadonlyMap<string, Buffer>, runtime: Runtime): void {
  if (runtime !== 'js') return;
  const problems: Problem[] = [...files.keys()]
    .filter((name) => !FILES.includes(name))
    .map((name) => ({ message: `${name} does not belong in a packed bundle`, file: name, hint: PACK_HINT }));
  if (!files.has(CODE_FILE)) problems.push({ message: `${CODE_FILE} is missing`, hint: PACK_HINT });
  refuseFor(problems);
}

function refuseFor(problems: readonly Problem[]): void {
  const [first] = problems;
  if (first === undefined) return;
  throw new FuncatronError('INVALID_BUNDLE', `refused the archive: ${first.message}`, { data: { problems } });
}

const PACK_HINT = 'make the archive with `funcatron pack`';
