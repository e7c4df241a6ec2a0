import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseDocument } from '../../../core/openapi/document.ts';
import { FuncatronError } from '../../../core/errors.ts';

function problemOf(text: string): string {
  try {
    parseDocument(text, 'f.yaml');
  } catch (error) {
    assert.ok(error instanceof FuncatronError);
    assert.equal(error.code, 'INVALID_BUNDLE');
    const [problem] = error.data.problems ?? [];
    return `${problem?.file}:${problem?.line}:${problem?.column} ${problem?.message}`;
  }
  throw new Error('was accepted');
}

describe('core/openapi/document', () => {
  it('reads YAML 1.2 with merge keys, and JSON with tabs', () => {
    const yaml = 'base: &b { a: 1, b: yes }\nx:\n  <<: *b\n  a: 2\ny: 2001-01-01\n200: ok\n';
    assert.deepEqual(parseDocument(yaml, 'f').value, {
      base: { a: 1, b: 'yes' },
      x: { a: 2, b: 'yes' },
      y: '2001-01-01',
      200: 'ok',
    });
    assert.deepEqual(parseDocument('\ufeff{\n\t"a": [\n\t\t1,\t2\n\t]\n}\n', 'f').value, { a: [1, 2] });
  });

  it('says where each value stands: at its key, or at the item of a list', () => {
    const { locate } = parseDocument('a:\n  b c: 1\n  "d/e":\n    - x\n    - { f: 2 }\n', 'f');
    assert.deepEqual(locate(''), { line: 1, column: 1 });
    assert.deepEqual(locate('/a/b c'), { line: 2, column: 3 });
    assert.deepEqual(locate('/a/d~1e'), { line: 3, column: 3 });
    assert.deepEqual(locate('/a/d~1e/0'), { line: 4, column: 7 });
    assert.deepEqual(locate('/a/d~1e/1/f'), { line: 5, column: 9 });
  });

  it('points at the nearest ancestor of what is not there', () => {
    const { locate } = parseDocument('a:\n  b: 1\n', 'f');
    assert.deepEqual(locate('/a/missing/deep'), { line: 1, column: 1 });
    assert.deepEqual(locate('/a/b/0'), { line: 2, column: 3 });
  });

  it('finds values that came through aliases and merge keys where they were written', () => {
    const yaml = 'one: &one\n  a: 1\ntwo: &two\n  b: 2\nx: { <<: *one }\ny: { <<: [*one, *two] }\nz: *two\n';
    const { locate } = parseDocument(yaml, 'f');
    assert.deepEqual(locate('/x/a'), { line: 2, column: 3 });
    assert.deepEqual(locate('/y/b'), { line: 4, column: 3 });
    assert.deepEqual(locate('/z/b'), { line: 4, column: 3 });
  });

  it('refuses malformed text with its place', () => {
    assert.equal(
      problemOf('a: 1\nb: ['),
      'f.yaml:2:5 cannot be read as YAML or JSON: unexpected end of the stream within a flow collection',
    );
    assert.equal(problemOf('a: 1\na: 2'), 'f.yaml:2:1 cannot be read as YAML or JSON: duplicated mapping key');
    assert.match(problemOf('{"a": 1,,}'), /^f\.yaml:1:9 /);
    assert.match(problemOf(''), /^f\.yaml:1:1 .*empty/);
    assert.match(problemOf('a: 1\n---\nb: 2\n'), /^f\.yaml:1:1 .*single document/);
    assert.match(problemOf('a: !!js/function x'), /^f\.yaml:1:4 .*unknown scalar tag/);
  });

  it('refuses what JSON does not have', () => {
    assert.equal(problemOf('- 1'), 'f.yaml:1:1 is not an object');
    assert.equal(problemOf('a:\n  b: .inf\n'), 'f.yaml:2:3 has the value Infinity, which JSON does not have');
    assert.equal(problemOf('a: &a\n  b: *a\n'), 'f.yaml:2:3 has an alias to something it is part of');
    assert.match(problemOf('a:\n  __proto__: { x: 1 }\n'), /the key __proto__/);
  });

  it('refuses documents that grow or nest without bound', () => {
    const lines = ['a0: &a0 [1,1,1,1,1,1,1,1,1,1]'];
    for (let level = 1; level < 30; level++) lines.push(`a${level}: &a${level} [${`*a${level - 1},`.repeat(10)}]`);
    assert.match(problemOf(lines.join('\n')), /more than 500000 values once its aliases are written out/);
    const chain = ['a0: &a0 {}', ...Array.from({ length: 5_000 }, (_, n) => `a${n + 1}: &a${n + 1} { x: *a${n} }`)];
    assert.match(problemOf(chain.join('\n')), /levels deep/);
    assert.match(problemOf('['.repeat(100_000)), /^f\.yaml:1:\d+ /);
    assert.match(problemOf('{"a":'.repeat(100_000)), /^f\.yaml:1:\d+ /);
    assert.match(problemOf(`x: &x 1\ny: [${'*x,'.repeat(20_000)}]`), /alias/);
    assert.match(problemOf(' '.repeat(5 * 1024 * 1024)), /has 5242880 characters/);
  });

  it('reads a document of a megabyte', () => {
    const paths = Array.from(
      { length: 8_000 },
      (_, n) => `  /path/number/${n}:\n    get: { operationId: op${n}, x: "${'y'.repeat(80)}" }\n`,
    );
    const text = `paths:\n${paths.join('')}`;
    assert.ok(text.length > 1_000_000);
    const source = parseDocument(text, 'f');
    assert.deepEqual(source.locate('/paths/~1path~1number~17999/get'), { line: 16_001, column: 5 });
  });

  it('reads any JSON as JSON.parse does', () => {
    const json = fc.object({ key: fc.string().filter((key) => key !== '__proto__'), withNullPrototype: false });
    fc.assert(
      fc.property(json, fc.constantFrom(undefined, 2, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        assert.deepEqual(parseDocument(text, 'f').value, JSON.parse(text));
      }),
    );
  });

  it('accepts or refuses any text, and throws nothing else', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[-{}[\]:,&*<>!|'"#%@` \n\ta0.]{0,60}$/), (text) => {
        try {
          parseDocument(text, 'f').locate('/a/0');
        } catch (error) {
          assert.ok(error instanceof FuncatronError, String(error));
        }
      }),
      { numRuns: 3_000 },
    );
  });
});
