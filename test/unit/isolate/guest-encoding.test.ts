import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import fc from 'fast-check';
import { parseBody } from '../../../runner/isolate/guest/body.ts';
import { decodeUtf8, encodeUtf8, TextDecoder, TextEncoder } from '../../../runner/isolate/guest/encoding.ts';
import { fillRandom, seedRandom } from '../../../runner/isolate/guest/random.ts';

describe('runner/isolate/guest/encoding', () => {
  it('encodes any string as Node does', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 200 }),
        fc.integer({ min: 0xd800, max: 0xdfff }),
        (text, lone) => {
          const odd = text + String.fromCharCode(lone) + text;
          assert.deepEqual(Buffer.from(encodeUtf8(odd)), Buffer.from(odd));
        },
      ),
    );
  });

  it('decodes any bytes as Node does, whole or in pieces', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.string({ unit: 'binary' }).map((text) => new Uint8Array(Buffer.from(text))),
    );
    fc.assert(
      fc.property(bytes, fc.nat(60), (given, cut) => {
        const expected = new globalThis.TextDecoder('utf-8', { ignoreBOM: true }).decode(given);
        assert.equal(decodeUtf8(given), expected);
        const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
        const text = decoder.decode(given.subarray(0, cut), { stream: true }) + decoder.decode(given.subarray(cut));
        assert.equal(text, expected);
      }),
      { numRuns: 2000 },
    );
  });

  it('drops a byte order mark, throws when fatal, reads utf-16le and latin1', () => {
    assert.equal(new TextDecoder().decode(Buffer.from('\ufeffa')), 'a');
    assert.throws(() => new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([0xff])), TypeError);
    assert.equal(new TextDecoder('utf-16le').decode(Buffer.from('aé€', 'utf16le')), 'aé€');
    assert.equal(new TextDecoder('latin1').decode(new Uint8Array([0xe9])), 'é');
    assert.throws(() => new TextDecoder('klingon'), RangeError);
    const target = new Uint8Array(4);
    assert.deepEqual(new TextEncoder().encodeInto('aé€', target), { read: 2, written: 3 });
  });
});

describe('runner/isolate/guest/random', () => {
  it('gives what ChaCha20 gives, each block keyed by the one before', () => {
    const seed = Buffer.from(Array.from({ length: 32 }, (_item, index) => index));
    const expected: Buffer[] = [];
    let key: Buffer = seed;
    for (let count = 0; count < 3; count++) {
      const block = createCipheriv('chacha20', key, Buffer.alloc(16)).update(Buffer.alloc(64));
      key = block.subarray(0, 32);
      expected.push(block.subarray(32));
    }
    seedRandom(new Uint8Array(seed));
    const given = new Uint8Array(96);
    fillRandom(given.subarray(0, 5));
    fillRandom(given.subarray(5));
    assert.equal(Buffer.from(given).toString('hex'), Buffer.concat(expected).toString('hex'));
  });
});

describe('runner/isolate/guest/body', () => {
  const multipart = (bytes: Uint8Array, boundary: string): unknown =>
    parseBody({ text: undefined, bytes }, `multipart/form-data; boundary="${boundary}"`);

  it('gives every field and file of a multipart body back as it was', () => {
    const field = fc.tuple(
      fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1 }),
      fc.uint8Array({ maxLength: 50 }),
    );
    fc.assert(
      fc.property(fc.uniqueArray(field, { selector: ([name]) => name }), (files) => {
        const parts = files.flatMap(([name, bytes]) => [
          Buffer.from(
            `--=_b\r\nContent-Disposition: form-data; name="${name}"; filename="f"\r\nContent-Type: x/y\r\n\r\n`,
          ),
          Buffer.from(bytes),
          Buffer.from('\r\n'),
        ]);
        const parsed = multipart(Buffer.concat([...parts, Buffer.from('--=_b--')]), '=_b') as Record<
          string,
          { bytes: Uint8Array }
        >;
        assert.deepEqual(
          Object.entries(parsed).map(([name, file]) => [name, [...file.bytes]]),
          files.map(([name, bytes]) => [name, [...bytes]]),
        );
      }),
    );
  });

  it('never throws on a body that is no multipart', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.string({ minLength: 1 }), (bytes, boundary) =>
        assert.equal(typeof multipart(bytes, boundary), 'object'),
      ),
    );
  });
});
