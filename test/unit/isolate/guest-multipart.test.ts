import assert from 'node:assert/strict';
import fc from 'fast-check';
import { partsOf } from '../../../runner/isolate/guest/multipart.ts';

const TYPE = 'multipart/form-data; boundary="b"';

/** The bytes in pieces of these lengths, over and over. */
async function* inPieces(bytes: Uint8Array, lengths: readonly number[]): AsyncGenerator<Uint8Array, undefined> {
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const length = lengths[n % lengths.length] ?? bytes.length;
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

function read(text: string | Buffer, type = TYPE): ReturnType<typeof partsOf> {
  return partsOf(inPieces(Buffer.from(text as string), [7]), type);
}

async function textsOf(text: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const part of read(text)) texts.push(`${part.name}=${await part.text()}`);
  return texts;
}

const part = (name: string, body: string): string =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${body}\r\n`;

describe('runner/isolate/guest/multipart', () => {
  it('gives back what a form held, however its bytes are cut, and whatever is left unread', async () => {
    const alphabet = fc.constantFrom(13, 10, 45, 98, 97); // what delimiters are made of
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.array(alphabet, { maxLength: 40 }).map((all) => Uint8Array.from(all)),
    );
    const bodies = fc.array(fc.tuple(body, fc.constantFrom('all', 'some', 'none')), { maxLength: 5 });
    const lengths = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(bodies, lengths, async (forms, cuts) => {
        fc.pre(forms.every(([bytes]) => !Buffer.concat([Buffer.from('\r\n'), bytes]).includes('\r\n--b')));
        const whole = Buffer.concat([
          ...forms.flatMap(([bytes], n) => [Buffer.from(part(String(n), '').slice(0, -2)), bytes, Buffer.from('\r\n')]),
          Buffer.from('--b--\r\nepilogue'),
        ]);
        let count = 0;
        for await (const given of partsOf(inPieces(whole, cuts), TYPE)) {
          const [bytes, how] = forms[count] ?? [];
          assert.equal(given.name, String(count++));
          if (how === 'all') assert.deepEqual(Buffer.from(await given.bytes()), Buffer.from(bytes ?? []));
          if (how === 'some') for await (const piece of given.stream()) if (piece.length > 0) break;
        }
        assert.equal(count, forms.length);
      }),
    );
  });

  it('takes a preamble, padding after a delimiter, heads that say little, and a body that is empty', async () => {
    assert.deepEqual(
      await textsOf(`preamble\r\n${part('a', '1').replace('--b', '--b \t')}--b\r\n\r\nbare\r\n${part('c', '')}--b--`),
      ['a=1', '=bare', 'c='],
    );
    assert.deepEqual(await textsOf('--b--'), []);
  });

  for (const [what, text, type] of [
    ['nothing', '', TYPE],
    ['no delimiter', 'just bytes', TYPE],
    ['no end', part('a', 'half').slice(0, -4), TYPE],
    ['an end in the middle of a head', '--b\r\nContent-Dis', TYPE],
    ['a delimiter with more on its line', '--bx\r\n\r\n', TYPE],
    ['no boundary in its type', part('a', '1'), 'multipart/form-data'],
    ['1001 parts', `${part('a', '1').repeat(1001)}--b--`, TYPE],
  ] as const) {
    it(`refuses a body of ${what} with INVALID_REQUEST`, async () => {
      await assert.rejects(
        async () => {
          for await (const each of read(text, type)) await each.bytes();
        },
        { code: 'INVALID_REQUEST' },
      );
    });
  }

  it('bounds heads, and parts that are read whole', async () => {
    const long = `--b\r\nx: ${'y'.repeat(17_000)}\r\n\r\n1\r\n--b--`;
    await assert.rejects(read(long).next(), { code: 'PAYLOAD_TOO_LARGE' });
    const first = async (bytes: number): Promise<string> => {
      for await (const each of read(`${part('a', '12345')}--b--`)) return await each.text(bytes);
      return '';
    };
    assert.equal(await first(5), '12345');
    await assert.rejects(first(4), { code: 'PAYLOAD_TOO_LARGE' });
  });

  it('lets go of the body when nobody wants more parts, and of a part when the next one is asked for', async () => {
    let isLetGo = false;
    async function* body(): AsyncGenerator<Uint8Array, undefined> {
      try {
        yield Buffer.from(`${part('a', '1')}${part('b', '2')}--b--`);
      } finally {
        isLetGo = true;
      }
    }
    const parts = partsOf(body(), TYPE);
    const { value: first } = await parts.next();
    await parts.next();
    await assert.rejects(async () => await first?.bytes(), TypeError);
    assert.equal(isLetGo, false);
    await parts.return(undefined);
    assert.equal(isLetGo, true);
  });
});
