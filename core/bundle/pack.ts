import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { FuncatronError, type Problem } from '../errors.ts';
import type { Api } from '../openapi/api.ts';
import { bundleRefs } from '../openapi/bundle-refs.ts';
import { loadApi, type LoadedApi } from '../openapi/load.ts';
import { type ArchiveId, CODE_FILE, DOCUMENT_FILE, MAP_FILE, packArchive } from './archive.ts';
import type { Manifest } from './manifest.ts';
import { packCode, type PackedCode } from './pack-code.ts';
import { packFiles } from './pack-files.ts';
import { runProviders } from './pack-providers.ts';

/** What an author's document may be called. */
const DOCUMENT_NAMES = ['funcatron.yaml', 'funcatron.yml', 'funcatron.json'] as const;

/** A bundle's folder as one archive, ready to be uploaded. */
export interface PackedBundle extends ArchiveId {
  readonly archive: Buffer;
  readonly api: Api;
  readonly manifest: Manifest;
  readonly warnings: readonly Problem[];
}

/**
 * Packs a bundle's folder: its document with every `$ref` resolved here, on the author's machine, and its code: of `js`
 * in one file, of every other runtime the files as they are. The same content gives the same digest, wherever the folder lies.
 * @throws INVALID_BUNDLE listing every problem with its file, line and column
 */
export async function packBundle(folder: string): Promise<PackedBundle> {
  const root = resolve(folder);
  const file = findDocument(root);
  const [original, text] = await Promise.all([readFile(join(root, file), 'utf8'), bundleRefs(root, file)]);
  // With other files brought in, lines are no longer the author's.
  const source = text === original ? { file } : { file, original };
  const { api, manifest, document, warnings: ofDocument } = await loadApi(text, source);
  const documentFile = Buffer.from(`${JSON.stringify(document, null, 2)}\n`);
  if (manifest.runtime !== 'js') {
    const files = await packFiles(root, file, manifest);
    const packed = await packArchive(files.set(DOCUMENT_FILE, documentFile));
    return { ...packed, api, manifest, warnings: ofDocument };
  }
  const packed = await packCode(root, manifest.entry);
  if (packed.exports.includes('providers')) return packProvided(packed, { document, manifest }, file);
  const { exports, warnings } = packed;
  const isComplete = api.operations.every(({ handler }) => exports.includes(handler));
  // Read again, now that it is known what the code exports: this throws, and says where each operation stands.
  if (!isComplete) await loadApi(text, { ...source, exports });
  const archive = await packArchive(filesOf(documentFile, packed));
  return { ...archive, api, manifest, warnings: [...ofDocument, ...warnings] };
}

/** A bundle that says itself what its document is, and maybe which funcs there are. */
async function packProvided(
  packed: PackedCode,
  { document, manifest: { config } }: Pick<LoadedApi, 'document' | 'manifest'>,
  file: string,
): Promise<PackedBundle> {
  const provided = await runProviders(packed, document, config);
  const { exports } = packed;
  const text = JSON.stringify(provided.document, null, 2);
  const loaded = await loadApi(text, { file, ...(provided.hasDispatcher ? {} : { exports }) });
  const documentFile = Buffer.from(`${JSON.stringify(loaded.document, null, 2)}\n`);
  const archive = await packArchive(filesOf(documentFile, packed));
  const { api, manifest, warnings } = loaded;
  return { ...archive, api, manifest, warnings: [...warnings, ...packed.warnings] };
}

function filesOf(document: Buffer, { code, map }: PackedCode): ReadonlyMap<string, Buffer> {
  return new Map([
    [DOCUMENT_FILE, document],
    [CODE_FILE, Buffer.from(code)],
    [MAP_FILE, Buffer.from(map)],
  ]);
}

function findDocument(root: string): string {
  const found = DOCUMENT_NAMES.filter((name) => existsSync(join(root, name)));
  const [file, second] = found;
  if (file !== undefined && second === undefined) return file;
  if (file === undefined) {
    throw new FuncatronError(
      'INVALID_BUNDLE',
      `there is no bundle in ${root}: it has no funcatron.yaml or funcatron.json`,
      {
        data: { hint: 'name the folder of a bundle, or begin one: `funcatron init my-bundle`' },
      },
    );
  }
  throw new FuncatronError('INVALID_BUNDLE', `there are two documents in ${root}: ${found.join(' and ')}`, {
    data: { hint: 'keep one of them' },
  });
}
