import assert from 'node:assert/strict';
import { deflateSync } from 'node:zlib';
import { build } from 'esbuild';
import { createPositionMapper } from '../../../runner/isolate/source-position.ts';

describe('runner/isolate/source-position', () => {
  it('says positions of the bundle in the author’s files', async () => {
    const { outputFiles } = await build({
      stdin: {
        contents: '\n\nexport function run(): never {\n  throw new Error("x");\n}',
        sourcefile: 'src/orders.ts',
        loader: 'ts',
      },
      format: 'cjs',
      sourcemap: true,
      outfile: 'bundle.js',
      write: false,
    });
    const [map, bundle] = outputFiles;
    const lines = bundle?.text.split('\n') ?? [];
    const line = lines.findIndex((text) => text.includes('new Error')) + 1;
    const column = (lines[line - 1]?.indexOf('new Error') ?? 0) + 1;
    const mapPositions = createPositionMapper(deflateSync(map?.contents ?? ''));
    assert.match(mapPositions(`at run (bundle.js:${line}:${column})`), /^at run \(src\/orders\.ts:4:\d+\)$/);
  });

  for (const map of [undefined, '', 'null', '{"version":3}', '{"version":3,"sources":[],"mappings":""}']) {
    it(`leaves them as they are with a map like ${map}`, () => {
      assert.equal(
        createPositionMapper(map === undefined ? undefined : deflateSync(map))('at run (bundle.js:1:2)'),
        'at run (bundle.js:1:2)',
      );
    });
  }

  it('leaves them as they are with a map that was not deflated', () => {
    assert.equal(createPositionMapper(Buffer.from('{}'))('at run (bundle.js:1:2)'), 'at run (bundle.js:1:2)');
  });
});
