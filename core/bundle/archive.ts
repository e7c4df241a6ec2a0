import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { createGunzip, gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { FuncatronError } from '../errors.ts';
import { ARCHIVE_LIMITS, type ArchiveLimits, ArchiveReader, refuseArchive } from './archive-reader.ts';
import { REVISION_LENGTH } from './manifest.ts';

/** Files of a packed bundle, by what they are. */
export const DOCUMENT_FILE = 'funcatron.json';
export const CODE_FILE = 'bundle.js';
export const MAP_FILE = 'bundle.js.map';

/** Smaller archives may be packed tighter than the ratio: they cannot hurt. */
const RATIO_FROM_BYTES = 1024 * 1024;

/** What names a content: `digest` is the sha-256 of the uncompressed tar in hex, `revision` its first 12 digits. */
export interface ArchiveId {
  readonly digest: string;
  readonly revision: string;
}

/**
 * Packs files into a gzipped ustar archive. Deterministic: names sorted, no times, owners or modes, so the same files
 * always have the same digest. (The gzip bytes may differ between platforms; that is why the digest is the tar's.)
 */
export async function packArchive(
  files: ReadonlyMap<string, Uint8Array>,
): Promise<ArchiveId & { readonly archive: Buffer }> {
  const tar = pack();
  const names = [...files.keys()].sort();
  for (const name of names) {
    const content = files.get(name) ?? Buffer.alloc(0);
    tar.entry({ name, mode: 0o644, uid: 0, gid: 0, mtime: new Date(0), type: 'file' }, Buffer.from(content));
  }
  tar.finalize();
  const bytes = await buffer(tar);
  return { archive: gzipSync(bytes, { level: 9 }), ...idOf(createHash('sha256').update(bytes).digest('hex')) };
}

/**
 * Unpacks an archive as it streams in, in memory, within limits: nothing is written anywhere and nothing of it runs.
 * Takes only regular files with plain relative names; everything else is a refusal that says which file and why.
 * An error of the source itself (an upload that breaks off) is thrown as it is.
 * @throws INVALID_BUNDLE, PAYLOAD_TOO_LARGE
 */
export async function readArchive(
  source: AsyncIterable<Uint8Array> | Uint8Array,
  limits: Partial<ArchiveLimits> = {},
): Promise<ArchiveId & { readonly files: Map<string, Buffer> }> {
  const all = { ...ARCHIVE_LIMITS, ...limits };
  const { unpackedBytes, ratio } = all;
  const reader = new ArchiveReader(all);
  const hash = createHash('sha256');
  const gunzip = createGunzip();
  let packed = 0;
  let unpacked = 0;

  async function* count(): AsyncGenerator<Uint8Array> {
    for await (const chunk of source instanceof Uint8Array ? [source] : source) {
      packed += chunk.length;
      // Empty deflate blocks grow the packed side alone, without end.
      if (packed > unpackedBytes) throw tooLarge(`it has more than ${unpackedBytes} bytes packed`);
      yield chunk;
    }
  }
  async function unpack(chunks: AsyncIterable<Buffer>): Promise<void> {
    for await (const chunk of chunks) {
      unpacked += chunk.length;
      if (unpacked > unpackedBytes) throw tooLarge(`it has more than ${unpackedBytes} bytes unpacked`);
      if (unpacked > RATIO_FROM_BYTES && unpacked > ratio * gunzip.bytesWritten) {
        throw tooLarge(`it unpacks to more than ${ratio} times its size`);
      }
      hash.update(chunk);
      reader.push(chunk);
    }
  }

  try {
    await pipeline(count(), gunzip, unpack);
  } catch (cause) {
    throw refusalOf(cause);
  }
  // zlib stops silently at bytes that are no gzip member.
  if (gunzip.bytesWritten < packed) throw refuseArchive('it has data after its gzip stream');
  reader.end();
  return { ...idOf(hash.digest('hex')), files: reader.files };
}

function idOf(digest: string): ArchiveId {
  return { digest, revision: digest.slice(0, REVISION_LENGTH) };
}

function tooLarge(message: string): FuncatronError {
  const hint = 'leave large data out of the bundle and fetch it at run time';
  return refuseArchive(message, { code: 'PAYLOAD_TOO_LARGE', hint });
}

/** What zlib says, in words; everything else as it is. */
function refusalOf(cause: unknown): unknown {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'Z_BUF_ERROR') return refuseArchive('it is cut short: the gzip stream does not end', { cause });
  if (typeof code === 'string' && code.startsWith('Z_')) {
    return refuseArchive('it is not gzip, or it is damaged', { cause });
  }
  return cause;
}
