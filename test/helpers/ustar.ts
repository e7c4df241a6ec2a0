import { gzipSync } from 'node:zlib';

/** One entry of a hand-made tar: what well-behaved packers never write. */
export interface RawEntry {
  readonly name: string | Buffer;
  readonly type?: string;
  readonly content?: Uint8Array;
  /** What the header says, where that is not the content's length. */
  readonly size?: string;
  readonly prefix?: string;
  readonly magic?: string;
  readonly checksum?: string;
}

/** A tar of these entries, gzipped; `tail` stands where the end marker belongs. */
export function rawArchive(entries: readonly RawEntry[], tail: Uint8Array = Buffer.alloc(1024)): Buffer {
  return gzipSync(Buffer.concat([...entries.map(rawEntry), tail]));
}

function rawEntry(entry: RawEntry): Buffer {
  const content = entry.content ?? Buffer.alloc(0);
  const header = Buffer.alloc(512);
  Buffer.from(entry.name).copy(header, 0, 0, 100);
  header.write('000644 \0', 100);
  header.write('000000 \0', 108);
  header.write('000000 \0', 116);
  header.write(entry.size ?? `${content.length.toString(8).padStart(11, '0')} `, 124);
  header.write('00000000000 ', 136);
  header.write('        ', 148);
  header.write(entry.type ?? '0', 156);
  header.write(entry.magic ?? 'ustar\x0000', 257, 'latin1');
  header.write(entry.prefix ?? '', 345);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(entry.checksum ?? `${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}
