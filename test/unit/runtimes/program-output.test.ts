import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import type { LogLevel } from '../../../core/log.ts';
import { logOutput } from '../../../runner/runtimes/program-output.ts';

async function linesOf(chunks: readonly Buffer[], encoding?: 'latin1', lowest?: LogLevel): Promise<string[]> {
  const stream = new PassThrough();
  if (encoding !== undefined) stream.setEncoding(encoding);
  const lines: string[] = [];
  logOutput(stream, 'info', { onLog: ({ message }) => void lines.push(message) }, lowest);
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  stream.once('end', () => stream.destroy());
  await once(stream, 'close');
  return lines;
}

describe('runner/runtimes/program-output', () => {
  it('gives the same lines however the bytes come in pieces, and whoever else reads the stream', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 40 }).map((line) => line.replaceAll(/[\r\n]/g, ''));
    await fc.assert(
      fc.asyncProperty(fc.array(text, { maxLength: 20 }), fc.integer({ min: 1, max: 9 }), async (lines, size) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_item, n) =>
          bytes.subarray(n * size, (n + 1) * size),
        );
        const expected = lines.filter((line) => line !== '');
        assert.deepEqual(await linesOf(chunks), expected);
        assert.deepEqual(await linesOf(chunks, 'latin1'), expected);
      }),
      { numRuns: 50 },
    );
  });

  it('gives the last line without its end, and none of a lower level than is wanted', async () => {
    assert.deepEqual(await linesOf([Buffer.from('a\r\nb')]), ['a', 'b']);
    assert.deepEqual(await linesOf([Buffer.from('a\nb')], undefined, 'warn'), []);
  });

  it('keeps the beginning of a line that does not end', async () => {
    const chunks = Array.from({ length: 64 }, () => Buffer.alloc(64 * 1024, 'x'));
    const [line = '', ...others] = await linesOf([...chunks, Buffer.from('\nnext\n')]);
    assert.deepEqual([line.length, others], [8192, ['next']]);
  });

  it('drops and counts the lines of a flood', async () => {
    const lines = await linesOf([Buffer.from('x\n'.repeat(50_000))]);
    assert.ok(lines.length >= 2000 && lines.length < 10_000, `${lines.length}`);
  });
});
