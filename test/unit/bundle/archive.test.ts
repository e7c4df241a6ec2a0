import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type Header, pack } from 'tar-stream';
import { packArchive, readArchive } from '../../../core/bundle/archive.ts';
import type { ArchiveLimits } from '../../../core/bundle/archive-reader.ts';
import { FuncatronError } from '../../../core/errors.ts';
import { type RawEntry, rawArchive } from '../../helpers/ustar.ts';

const MiB = 1024 * 1024;

/** The refusal, checked to be one that says what and what to do. */
async function refusal(
  source: Uint8Array | AsyncIterable<Uint8Array>,
  limits?: Partial<ArchiveLimits>,
): Promise<{ code: string; message: string; file: string | undefined }> {
  try {
    await readArchive(source, limits);
  } catch (error) {
    assert(error instanceof FuncatronError, String(error));
    const problem = error.data.problems?.[0];
    assert.ok(problem?.hint, 'a refusal says what to do next');
    return { code: error.code, message: problem.message, file: problem.file };
  }
  return assert.fail('the archive was taken');
}

async function tarOf(
  entries: readonly (Partial<Header> & { readonly name: string } & { readonly content?: string })[],
): Promise<Buffer> {
  const tar = pack();
  for (const { content, ...header } of entries) tar.entry(header, content ?? '');
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(Buffer.from(chunk as Uint8Array));
  return gzipSync(Buffer.concat(chunks));
}

/** The bytes in pieces of `size`, as an upload brings them. */
async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Names that may stand in an archive. */
const fileName = fc
  .array(fc.stringMatching(/^[a-z0-9_-][a-z0-9._-]{0,11}$/), { minLength: 1, maxLength: 4 })
  .map((parts) => parts.join('/'))
  .filter((name) => !name.split('/').some((part) => part === '.' || part === '..'));

/** Files of which none is a folder of another. */
const fileSet = fc
  .dictionary(fileName, fc.uint8Array({ maxLength: 2_000 }), { minKeys: 1, maxKeys: 8 })
  .map((files) => new Map(Object.entries(files)))
  .filter((files) =>
    [...files.keys()].every((name) => ![...files.keys()].some((other) => other.startsWith(`${name}/`))),
  );

describe('core/bundle/archive', () => {
  describe('packArchive', () => {
    it('names the content by the sha-256 of the uncompressed tar and its first 12 digits', async () => {
      const { archive, digest, revision } = await packArchive(new Map([['bundle.js', Buffer.from('1')]]));
      assert.equal(digest, createHash('sha256').update(gunzipSync(archive)).digest('hex'));
      assert.equal(revision, digest.slice(0, 12));
    });

    it('gives the same digest in any order of the files', async () => {
      const files = [
        ['b', Buffer.from('2')],
        ['a', Buffer.from('1')],
      ] as const;
      const one = await packArchive(new Map(files));
      const other = await packArchive(new Map(files.toReversed()));
      assert.deepEqual(one, other);
    });

    it('keeps its digest from version to version (golden)', async () => {
      const files = new Map([
        ['bundle.js', Buffer.from('exports.hello = () => 1;\n')],
        ['funcatron.json', Buffer.from('{}')],
      ]);
      const { digest } = await packArchive(files);
      assert.equal(digest, 'd63cab6f9f3cbe8da22b2966646c98d22676c96dcd99aea81d360bfe0881afbd');
    });
  });

  describe('readArchive', () => {
    it('gives back what packArchive was given, whatever the files and however the bytes come', async () => {
      await fc.assert(
        fc.asyncProperty(fileSet, fc.integer({ min: 1, max: 700 }), async (files, piece) => {
          const packed = await packArchive(files);
          const read = await readArchive(inPieces(packed.archive, piece));
          assert.equal(read.digest, packed.digest);
          assert.deepEqual(
            new Map([...read.files].map(([name, bytes]) => [name, new Uint8Array(bytes)])),
            new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1))),
          );
        }),
        { numRuns: 60 },
      );
    });

    it('answers any bytes with files or a refusal, never with anything else', async () => {
      const valid = gunzipSync(
        (
          await packArchive(
            new Map([
              ['a/b', Buffer.alloc(700, 7)],
              ['c', Buffer.from('x')],
            ]),
          )
        ).archive,
      );
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 }),
          fc.nat(valid.length),
          async (changes, length) => {
            const bytes = Buffer.from(valid);
            for (const [at, byte] of changes) bytes[at] = byte;
            try {
              const { files } = await readArchive(gzipSync(bytes.subarray(0, length)));
              assert.ok(files.size > 0);
            } catch (error) {
              assert(error instanceof FuncatronError, String(error));
            }
          },
        ),
        { numRuns: 200 },
      );
    });

    const hostileNames: readonly [name: string | Buffer, why: RegExp][] = [
      ['../evil', /leads out/],
      ['a/../../evil', /leads out/],
      ['/etc/passwd', /absolute/],
      ['C:/windows', /absolute/],
      ['a\\b', /backslash/],
      ['', /empty/],
      ['./a', /empty part or a "\."/],
      ['a//b', /empty part/],
      ['a/', /empty part/],
      [Buffer.from('ab\0cd'), /control character/],
      ['a\nb', /control character/],
      ['e\u0301', /normal form C/],
      [Buffer.from([0x61, 0xff, 0x62]), /UTF-8/],
    ];
    for (const [name, why] of hostileNames) {
      it(`refuses the file name ${JSON.stringify(name.toString('latin1'))}`, async () => {
        const { code, message } = await refusal(rawArchive([{ name, content: Buffer.from('x') }]));
        assert.equal(code, 'INVALID_BUNDLE');
        assert.match(message, why);
      });
    }

    it('refuses a name that leads out through the prefix field', async () => {
      const { message } = await refusal(rawArchive([{ name: 'evil', prefix: '..' }]));
      assert.match(message, /leads out/);
    });

    it('refuses names that are equal but for upper and lower case', async () => {
      const { code, message, file } = await refusal(rawArchive([{ name: 'Bundle.js' }, { name: 'bundle.JS' }]));
      assert.deepEqual([code, file], ['INVALID_BUNDLE', 'bundle.JS']);
      assert.match(message, /twice/);
    });

    it('refuses a file that is a folder too, in either order', async () => {
      assert.match((await refusal(rawArchive([{ name: 'a' }, { name: 'A/b' }]))).message, /folder above it is a file/);
      assert.match((await refusal(rawArchive([{ name: 'a/b' }, { name: 'A' }]))).message, /file and a folder/);
    });

    const kinds: readonly [type: NonNullable<Header['type']>, why: RegExp][] = [
      ['symlink', /symbolic link/],
      ['link', /hard link/],
      ['directory', /folder/],
      ['character-device', /character device/],
      ['block-device', /block device/],
      ['fifo', /named pipe/],
    ];
    for (const [type, why] of kinds) {
      it(`refuses a ${type}`, async () => {
        const archive = await tarOf([{ name: 'a', type, linkname: '/etc/passwd' }]);
        const { code, message } = await refusal(archive);
        assert.equal(code, 'INVALID_BUNDLE');
        assert.match(message, why);
      });
    }

    const headers: readonly [type: string, why: RegExp][] = [
      ['x', /a pax header/],
      ['g', /global pax header/],
      ['L', /GNU long name/],
      ['K', /GNU long link/],
      ['S', /sparse/],
      ['V', /unknown type "V"/],
    ];
    for (const [type, why] of headers) {
      it(`refuses an entry of type ${type}, which another reader would apply silently`, async () => {
        const rename: RawEntry = { name: 'pax', type, content: Buffer.from('17 path=../evil\n') };
        const { message } = await refusal(rawArchive([rename, { name: 'harmless' }]));
        assert.match(message, why);
      });
    }

    it('refuses a long name, which packers write as a pax header', async () => {
      const { message } = await refusal(await tarOf([{ name: `${'n'.repeat(150)}.js` }]));
      assert.match(message, /pax header/);
    });

    it('refuses what is no ustar: another magic, a wrong checksum', async () => {
      assert.match((await refusal(rawArchive([{ name: 'a', magic: 'ustar  \0' }]))).message, /no ustar/);
      assert.match((await refusal(rawArchive([{ name: 'a', checksum: '000001\0 ' }]))).message, /no ustar/);
    });

    it('refuses sizes that are no octal number', async () => {
      for (const size of ['\x80\0\0\0\0\0\0\0\0\0\x01\0', '-0000000001 ', '99999999999 ', '            ']) {
        const { message } = await refusal(rawArchive([{ name: 'a', size }]));
        assert.match(message, /octal|no ustar/);
      }
    });

    it('refuses data behind the end marker', async () => {
      const second = gunzipSync(rawArchive([{ name: 'b' }]));
      const { message } = await refusal(rawArchive([{ name: 'a' }], Buffer.concat([Buffer.alloc(1024), second])));
      assert.match(message, /after its end marker/);
    });

    it('refuses a single zero block between two entries', async () => {
      const second = gunzipSync(rawArchive([{ name: 'b' }]));
      const { message } = await refusal(rawArchive([{ name: 'a' }], Buffer.concat([Buffer.alloc(512), second])));
      assert.match(message, /after its end marker/);
    });

    it('takes the zeros that GNU tar fills its last record with', async () => {
      const { files } = await readArchive(rawArchive([{ name: 'a' }], Buffer.alloc(10_240 - 512)));
      assert.deepEqual([...files.keys()], ['a']);
    });

    it('refuses a tar that is cut short anywhere', async () => {
      const whole = gunzipSync((await packArchive(new Map([['a', Buffer.alloc(600, 1)]]))).archive);
      for (const length of [0, 100, 512, 700, 1_112, 1_536, 1_537, 2_048, whole.length - 1]) {
        const { code, message } = await refusal(gzipSync(whole.subarray(0, length)));
        assert.equal(code, 'INVALID_BUNDLE', String(length));
        assert.match(message, /cut short/, String(length));
      }
    });

    it('refuses a gzip stream that is cut short, damaged, none, or has something behind it', async () => {
      const { archive } = await packArchive(new Map([['a', Buffer.alloc(600, 1)]]));
      const damaged = Buffer.from(archive);
      damaged.fill(0xff, 20, 30);
      assert.match((await refusal(archive.subarray(0, -9))).message, /does not end/);
      assert.match((await refusal(damaged)).message, /not gzip, or it is damaged/);
      assert.match((await refusal(Buffer.from('hello'))).message, /not gzip/);
      assert.match((await refusal(Buffer.alloc(0))).message, /does not end/);
      assert.match((await refusal(Buffer.concat([archive, Buffer.alloc(20)]))).message, /after its gzip stream/);
      assert.match((await refusal(Buffer.concat([archive, Buffer.from('PK')]))).message, /damaged|after its gzip/);
    });

    it('refuses an archive without files', async () => {
      assert.match((await refusal(rawArchive([]))).message, /holds no files/);
    });

    it('refuses a file, or a whole, of too many bytes by what the header says, before the bytes come', async () => {
      const huge: RawEntry = { name: 'a', size: `${(17 * MiB).toString(8).padStart(11, '0')} ` };
      const { code, message, file } = await refusal(rawArchive([huge]));
      assert.deepEqual([code, file], ['PAYLOAD_TOO_LARGE', 'a']);
      assert.match(message, /17825792 bytes, more than 16777216/);
    });

    it('refuses more bytes unpacked than the limit', async () => {
      // It is small enough that the ratio does not count.
      const noise = Buffer.from(Array.from({ length: 3_000 }, (_, n) => (n * 7919 + (n >> 3)) % 251));
      const limits = { unpackedBytes: 3_000, ratio: 1e9 };
      const { archive } = await packArchive(new Map([['a', noise]]));
      const { code, message } = await refusal(archive, limits);
      assert.equal(code, 'PAYLOAD_TOO_LARGE');
      assert.match(message, /more than 3000 bytes unpacked/);
    });

    it('refuses too many files', async () => {
      const entries = Array.from({ length: 2_001 }, (_, n) => ({ name: `f${n}` }));
      const { code, message } = await refusal(rawArchive(entries), { ratio: 1e9 });
      assert.equal(code, 'PAYLOAD_TOO_LARGE');
      assert.match(message, /more than 2000 files/);
    });

    it('stops a bomb long before its end', async () => {
      const bomb = gzipSync(Buffer.alloc(256 * MiB));
      let sent = 0;
      async function* upload(): AsyncGenerator<Uint8Array> {
        for await (const piece of inPieces(bomb, 1_024)) {
          sent += piece.length;
          yield piece;
        }
      }
      const { code, message } = await refusal(upload());
      assert.equal(code, 'PAYLOAD_TOO_LARGE');
      assert.match(message, /more than 100 times its size/);
      assert.ok(sent < bomb.length / 2, `read ${sent} of ${bomb.length} bytes`);
    });

    it('stops an upload that unpacks to nothing, without end', async () => {
      // A stored deflate block of length 0, for ever.
      async function* nothing(): AsyncGenerator<Uint8Array> {
        yield Buffer.from('1f8b0800000000000003', 'hex');
        for (;;) yield Buffer.from('000000ffff'.repeat(200), 'hex');
      }
      const { code, message } = await refusal(nothing(), { unpackedBytes: MiB });
      assert.equal(code, 'PAYLOAD_TOO_LARGE');
      assert.match(message, /bytes packed/);
    });

    it('throws the error of an upload that breaks off as it is', async () => {
      async function* broken(): AsyncGenerator<Uint8Array> {
        yield (await packArchive(new Map([['a', Buffer.alloc(9)]]))).archive.subarray(0, 20);
        throw new Error('socket hang up');
      }
      await assert.rejects(readArchive(broken()), { message: 'socket hang up' });
    });
  });
});
