import { FuncatronError } from '../errors.ts';

/** What an uploaded archive may hold at most. */
export interface ArchiveLimits {
  /** All of it, unpacked, headers included. */
  readonly unpackedBytes: number;
  readonly fileBytes: number;
  readonly files: number;
  /** Unpacked bytes per packed byte. */
  readonly ratio: number;
}

const MiB = 1024 * 1024;

export const ARCHIVE_LIMITS: ArchiveLimits = {
  unpackedBytes: 64 * MiB,
  fileBytes: 16 * MiB,
  files: 2_000,
  ratio: 100,
};

const BLOCK = 512;
const PACK_HINT = 'make the archive with `funcatron pack`';

/** Header types other than a regular file, in words. Source: POSIX.1-2017 pax, "ustar Interchange Format", and GNU tar. */
const REFUSED_TYPES: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a character device',
  '4': 'a block device',
  '5': 'a folder entry',
  '6': 'a named pipe',
  '7': 'a contiguous file',
  S: 'a sparse file',
  L: 'a GNU long name',
  K: 'a GNU long link name',
  x: 'a pax header',
  g: 'a global pax header',
};

/** What a refusal of an archive looks like: one problem, with what to do. */
export function refuseArchive(
  message: string,
  options: {
    file?: string;
    hint?: string;
    code?: 'INVALID_BUNDLE' | 'PAYLOAD_TOO_LARGE';
    cause?: unknown;
  } = {},
): FuncatronError {
  const { file, hint = PACK_HINT, code = 'INVALID_BUNDLE', cause } = options;
  return new FuncatronError(code, `refused the archive: ${message}`, {
    cause,
    data: { problems: [{ message, hint, ...(file === undefined ? {} : { file }) }] },
  });
}

/**
 * Reads a ustar archive as its bytes come in, and takes nothing but regular files with plain names.
 * It is a reader of its own because the usual ones apply pax and GNU headers silently and read on behind the end
 * marker: two readers could then see different files in one archive.
 *
 * States: a header is due → inside a file → (its padding) → a header is due → … → one zero block seen → ended.
 */
export class ArchiveReader {
  /** By name, in archive order. */
  readonly files = new Map<string, Buffer>();
  readonly #limits: ArchiveLimits;
  readonly #header = Buffer.alloc(BLOCK);
  /** Names taken so far, lower case; false for the folders above files. */
  readonly #taken = new Map<string, boolean>();
  #headerBytes = 0;
  #file: Buffer | undefined;
  #filled = 0;
  #padding = 0;
  #zeroBlocks = 0;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** Takes the next bytes; copies what it keeps. @throws INVALID_BUNDLE, PAYLOAD_TOO_LARGE */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) at += this.#take(chunk, at);
  }

  /** Says that no more bytes come. @throws INVALID_BUNDLE when the archive is cut short or empty */
  end(): void {
    if (this.#zeroBlocks < 2 || this.#headerBytes > 0)
      throw refuseArchive('it is cut short: the end marker is missing');
    if (this.files.size === 0) throw refuseArchive('it holds no files');
  }

  /** Uses some bytes from `at` on and returns how many. */
  #take(chunk: Uint8Array, at: number): number {
    const left = chunk.length - at;
    if (this.#file !== undefined) {
      const taken = Math.min(left, this.#file.length - this.#filled);
      this.#file.set(chunk.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      if (this.#filled === this.#file.length) this.#file = undefined;
      return taken;
    }
    if (this.#padding > 0) {
      const taken = Math.min(left, this.#padding);
      this.#padding -= taken;
      return taken;
    }
    const taken = Math.min(left, BLOCK - this.#headerBytes);
    this.#header.set(chunk.subarray(at, at + taken), this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes === BLOCK) {
      this.#headerBytes = 0;
      this.#readHeader();
    }
    return taken;
  }

  #readHeader(): void {
    const header = this.#header;
    if (header.every((byte) => byte === 0)) {
      this.#zeroBlocks++;
      return;
    }
    if (this.#zeroBlocks > 0) throw refuseArchive('it has data after its end marker');
    if (header.toString('latin1', 257, 265) !== 'ustar\x0000' || readOctal(header, 148, 8) !== checksumOf(header)) {
      throw refuseArchive('it is no ustar archive, or it is damaged');
    }
    const name = readName(header);
    const type = String.fromCharCode(header[156] ?? 0);
    if (type !== '0' && type !== '\0') {
      const what = REFUSED_TYPES[type] ?? `an entry of unknown type ${JSON.stringify(type)}`;
      // Quoted, because nothing has checked this name.
      throw refuseArchive(`it holds ${what} (${JSON.stringify(name)}); only regular files are taken`);
    }
    this.#startFile(name, readOctal(header, 124, 12));
  }

  #startFile(name: string, bytes: number | undefined): void {
    const wrong = problemOfName(name);
    if (wrong !== undefined) throw refuseArchive(`the file name ${JSON.stringify(name)} ${wrong}`);
    if (bytes === undefined) throw refuseArchive('its size is not an octal number', { file: name });
    if (bytes > this.#limits.fileBytes) {
      throw refuseArchive(`the file has ${bytes} bytes, more than ${this.#limits.fileBytes}`, {
        file: name,
        code: 'PAYLOAD_TOO_LARGE',
        hint: 'leave large data out of the bundle and fetch it at run time',
      });
    }
    if (this.files.size >= this.#limits.files) {
      throw refuseArchive(`it holds more than ${this.#limits.files} files`, { code: 'PAYLOAD_TOO_LARGE' });
    }
    this.#claim(name);
    // Zero-filled memory would be touched at once: a header alone could then cost as much as a file.
    const file = Buffer.allocUnsafeSlow(bytes);
    this.files.set(name, file);
    this.#padding = (BLOCK - (bytes % BLOCK)) % BLOCK;
    this.#filled = 0;
    this.#file = bytes === 0 ? undefined : file;
  }

  /** Remembers a name and the folders above it; no two may differ in case only, and none may be both. */
  #claim(name: string): void {
    const key = name.toLowerCase();
    const taken = this.#taken.get(key);
    if (taken === true)
      throw refuseArchive('its name is there twice (upper and lower case count as equal)', { file: name });
    if (taken === false) throw refuseArchive('it is a file and a folder at once', { file: name });
    this.#taken.set(key, true);
    for (let slash = key.indexOf('/'); slash !== -1; slash = key.indexOf('/', slash + 1)) {
      const folder = key.slice(0, slash);
      if (this.#taken.get(folder) === true) throw refuseArchive('a folder above it is a file', { file: name });
      this.#taken.set(folder, false);
    }
  }
}

/** Why a file may not be called so, or `undefined` when it may. */
export function problemOfName(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.includes('\uFFFD')) return 'is no valid UTF-8';
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name)) return 'holds a control character';
  if (name.includes('\\')) return 'holds a backslash';
  if (name.startsWith('/') || /^[a-z]:/i.test(name)) return 'is absolute';
  if (name.normalize('NFC') !== name) return 'is not in Unicode normal form C';
  const parts = name.split('/');
  if (parts.includes('..')) return 'leads out of the archive (..)';
  if (parts.includes('.') || parts.includes('')) return 'has an empty part or a "."';
  return undefined;
}

/** `prefix/name`; a byte behind the first NUL would be hidden from whoever reads to there, so it is shown. */
function readName(header: Buffer): string {
  const name = readText(header, 0, 100);
  const prefix = readText(header, 345, 155);
  return prefix === '' ? name : `${prefix}/${name}`;
}

function readText(header: Buffer, start: number, length: number): string {
  return header.toString('utf8', start, start + length).replace(/\0+$/, '');
}

function readOctal(header: Buffer, start: number, length: number): number | undefined {
  const digits = /^ *([0-7]{1,12})[ \0]*$/.exec(header.toString('latin1', start, start + length))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

/** The sum of the header's bytes with its checksum field read as blanks. */
function checksumOf(header: Buffer): number {
  let sum = 8 * 32;
  for (let at = 0; at < BLOCK; at++) if (at < 148 || at >= 156) sum += header[at] ?? 0;
  return sum;
}
