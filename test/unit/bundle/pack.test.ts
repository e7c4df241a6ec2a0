import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';
import { readArchive } from '../../../core/bundle/archive.ts';
import { packBundle } from '../../../core/bundle/pack.ts';
import { FuncatronError, type Problem } from '../../../core/errors.ts';

const DOCUMENT = `openapi: 3.1.0
info: { title: Small, version: 1.0.0 }
paths:
  /a:
    get:
      operationId: getA
      responses: { '200': { description: ok } }
`;

/** What the packed code exports when it runs, with nothing around it. */
function run(code: string): Record<string, unknown> {
  const module = { exports: {} };
  new Script(`(function (module, exports) {${code}\n})`).runInThisContext()(module, module.exports);
  return module.exports;
}

describe('core/bundle/pack', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'funcatron-pack-'));
  });
  afterEach(() => {
    rmSync(root, { recursive: true, force: true });
  });

  /** Writes files below the test's folder and returns the path of `folder` in it. */
  function write(files: Readonly<Record<string, string>>, folder = '.'): string {
    for (const [name, text] of Object.entries(files)) {
      const path = join(root, folder, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    }
    return join(root, folder);
  }

  async function filesOf(folder: string): Promise<{ code: string; map: string; document: string }> {
    const { files } = await readArchive((await packBundle(folder)).archive);
    assert.deepEqual([...files.keys()], ['bundle.js', 'bundle.js.map', 'funcatron.json']);
    const [code = '', map = '', document = ''] = [...files.values()].map(String);
    return { code, map, document };
  }

  async function problemsOf(folder: string): Promise<readonly Problem[]> {
    try {
      await packBundle(folder);
    } catch (error) {
      assert(error instanceof FuncatronError, String(error));
      assert.equal(error.code, 'INVALID_BUNDLE');
      return error.data.problems ?? [];
    }
    return assert.fail('the bundle was packed');
  }

  /** The only problem; its place as `file:line:column`. */
  async function problemOf(folder: string): Promise<{ place: string; message: string; hint: string }> {
    const problems = await problemsOf(folder);
    assert.equal(problems.length, 1, JSON.stringify(problems));
    const { file, line, column, message = '', hint = '' } = problems[0] ?? {};
    return { place: `${file}:${line}:${column}`, message, hint };
  }

  it('makes one CommonJS file with what it imports inlined, and the document as JSON', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { one } from './one.ts'; import two from 'two';
        export const getA = (): number => one + two();`,
      'one.ts': 'export const one: number = 1;',
      'node_modules/two/package.json': '{"name":"two","main":"main.js"}',
      'node_modules/two/main.js': 'module.exports = () => 2;',
    });
    const { code, document } = await filesOf(folder);
    assert.equal((run(code)['getA'] as () => number)(), 3);
    assert.equal((JSON.parse(document) as { openapi: string }).openapi, '3.1.0');
    assert.doesNotMatch(code, /require\("/);
  });

  it('finds the sdk from anywhere', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { type Func, reply } from 'funcatron'; export const getA: Func = () => reply(201, 'x');`,
    });
    const { status, body } = (run((await filesOf(folder)).code)['getA'] as () => { status: number; body: string })();
    assert.deepEqual([status, body], [201, 'x']);
  });

  it('writes a source map that leads back to the author’s files', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { fail } from './deep/fail.ts';\nexport const getA = () => fail();`,
      'deep/fail.ts': `\n\nexport function fail(): never {\n  throw new Error('boom');\n}`,
    });
    const { code, map } = await filesOf(folder);
    const lines = code.split('\n');
    const line = lines.findIndex((text) => text.includes('boom'));
    const entry = new SourceMap(JSON.parse(map) as never).findEntry(line, lines[line]?.indexOf('throw') ?? 0);
    assert('originalSource' in entry);
    assert.deepEqual([entry.originalSource, entry.originalLine], ['deep/fail.ts', 3]);
  });

  it('gives the same digest wherever the folder and its packages lie', async () => {
    const bundle = {
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { reply } from 'funcatron'; import two from 'two'; import { em } from '@scope/em';
        export const getA = async () => reply(200, [two, em, await import('./lazy.ts')]);`,
      'lazy.ts': 'export const lazy = 1;',
    };
    const packages = {
      'node_modules/two/package.json': '{"name":"two","main":"main.js"}',
      'node_modules/two/main.js': 'module.exports = () => 2;\n//# sourceMappingURL=main.js.map',
      'node_modules/two/main.js.map': '{"version":3,"sources":["../src/main.ts"],"names":[],"mappings":"AAAA"}',
      'node_modules/@scope/em/package.json': '{"name":"@scope/em","type":"module","main":"main.js"}',
      'node_modules/@scope/em/main.js': 'export const em = 3;',
    };
    const inside = write({ ...bundle, ...packages }, 'inside');
    const deep = write(bundle, 'above/some/where/deep');
    write({ ...packages, 'tsconfig.json': '{"compilerOptions":{"target":"es5","jsx":"react"}}' }, 'above');
    const one = await packBundle(inside);
    const other = await packBundle(deep);
    assert.equal(one.digest, other.digest);
    assert.equal(one.revision, one.digest.slice(0, 12));
    const { map } = await filesOf(deep);
    const { sources } = JSON.parse(map) as { sources: string[] };
    assert.deepEqual(
      sources.filter((source) => source.startsWith('..')),
      [],
    );
  });

  it('gives another digest when anything changes', async () => {
    const folder = write({ 'funcatron.yaml': DOCUMENT, 'index.ts': 'export const getA = () => 1;' });
    const before = await packBundle(folder);
    write({ 'index.ts': 'export const getA = () => 2;' });
    const changedCode = await packBundle(folder);
    write({ 'funcatron.yaml': DOCUMENT.replace('1.0.0', '1.0.1') });
    const changedDocument = await packBundle(folder);
    assert.equal(new Set([before, changedCode, changedDocument].map(({ digest }) => digest)).size, 3);
  });

  it('refuses Node modules, with the place and the way of imports to them', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { load } from './load.ts';\nexport const getA = () => load();`,
      'load.ts': `\nimport pg from 'pg';\nexport const load = () => pg();`,
      'node_modules/pg/package.json': '{"name":"pg","main":"main.js"}',
      'node_modules/pg/main.js': `const net = require('net');\nmodule.exports = () => net.connect();`,
    });
    const { place, message, hint } = await problemOf(folder);
    assert.equal(place, 'node_modules/pg/main.js:1:21');
    assert.match(message, /"net".*index\.ts → load\.ts → node_modules\/pg\/main\.js → net/);
    assert.match(hint, /web API/);
  });

  it('takes a package that is installed under the name of a Node module', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { once } from 'events'; export const getA = () => once;`,
      'node_modules/events/package.json': '{"name":"events","main":"main.js"}',
      'node_modules/events/main.js': `exports.once = 'from npm';`,
    });
    assert.equal((run((await filesOf(folder)).code)['getA'] as () => string)(), 'from npm');
  });

  it('refuses node: imports and URLs, but not ones that nobody uses', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import fs from 'node:fs'; import os from 'node:os'; import x from 'https://esm.sh/x';
        export const getA = () => [fs, x]; export type T = typeof os;`,
    });
    const problems = await problemsOf(folder);
    assert.deepEqual(
      problems.map(({ message }) => /^"([^"]+)"/.exec(message)?.[1]),
      ['node:fs', 'https://esm.sh/x'],
    );
  });

  it('refuses a top-level await and says where it belongs', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `const table = \n  await fetch('http://x');\nexport const getA = () => table;`,
    });
    const { place, hint } = await problemOf(folder);
    assert.equal(place, 'index.ts:2:3');
    assert.match(hint, /init\(context\)/);
  });

  it('refuses an import by a name that is known at run time only, at its place in the source', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { by } from './by.ts';\nexport const getA = () => by('x');`,
      'by.ts': `/** doc */\nexport async function by(name: string): Promise<unknown> {\n  return await import(name);\n}`,
    });
    const { place, message } = await problemOf(folder);
    assert.equal(place, 'by.ts:3:16');
    assert.match(message, /import/);
  });

  it('refuses an operation whose func is not exported, at its line in the document', async () => {
    const folder = write({ 'funcatron.yaml': DOCUMENT, 'index.ts': 'export const getB = () => 1;' });
    const { place, message } = await problemOf(folder);
    assert.match(place, /^funcatron\.yaml:6:/);
    assert.match(message, /getA/);
  });

  it('finds exports that another file exports, and ones of CommonJS by name', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `export * from './all.ts';`,
      'all.ts': 'export function getA() { return 1; }',
    });
    assert.equal((await packBundle(folder)).api.operations[0]?.handler, 'getA');
  });

  it('says where a syntax error is, and what a missing import needs', async () => {
    const broken = write({ 'funcatron.yaml': DOCUMENT, 'index.ts': 'export const getA = () => {\n  return 1 +;\n};' });
    assert.equal((await problemOf(broken)).place, 'index.ts:2:13');
    write({
      'index.ts': `import x from 'not-there';\nimport y from './nor-this.ts';\nexport const getA = () => [x, y];`,
    });
    const problems = await problemsOf(broken);
    assert.deepEqual(
      problems.map(({ file, line, hint }) => `${file}:${line} ${hint}`),
      ["index.ts:1 run `npm install not-there` in the bundle's folder", 'index.ts:2 check the path and its extension'],
    );
  });

  it('refuses a folder without a document, with two, and without its entry', async () => {
    await assert.rejects(packBundle(root), { code: 'INVALID_BUNDLE', message: /no funcatron\.yaml/ });
    write({ 'funcatron.yaml': DOCUMENT, 'funcatron.json': '{}' });
    await assert.rejects(packBundle(root), { code: 'INVALID_BUNDLE', message: /two documents/ });
    rmSync(join(root, 'funcatron.json'));
    assert.match((await problemOf(root)).hint, /x-funcatron\.entry/);
  });

  it('brings in the files that the document refers to', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT.replace(
        "{ '200': { description: ok } }",
        `{ '200': { description: ok, content: { application/json: { schema: { $ref: 'schemas/a.yaml' } } } } }`,
      ),
      'schemas/a.yaml': 'type: object\nproperties: { n: { type: integer } }\n',
      'index.ts': 'export const getA = () => ({ n: 1 });',
    });
    const { document } = await filesOf(folder);
    assert.doesNotMatch(document, /schemas\/a\.yaml/);
    assert.match(document, /"integer"/);
  });

  it('says where in the author’s document a problem stands, also when files were brought in', async () => {
    const path = 'get:\n  operationId: getA\n  responses: { "200": { description: ok } }\n  summary: 5\n';
    const document = DOCUMENT.slice(0, DOCUMENT.indexOf('    get:')).concat('    $ref: ./a.yaml\n');
    const places = (problems: readonly Problem[]) => problems.map(({ file, line, column }) => ({ file, line, column }));
    const folder = write({ 'funcatron.yaml': document, 'a.yaml': path, 'index.ts': 'export const getB = () => 1;' });
    assert.deepEqual(places(await problemsOf(folder)), [{ file: 'funcatron.yaml', line: 4, column: 3 }]);
    write({ 'a.yaml': path.slice(0, path.indexOf('  summary')) });
    assert.deepEqual(places(await problemsOf(folder)), [{ file: 'funcatron.yaml', line: 4, column: 3 }]);
  });

  it('packs for web APIs: the browser build of a package, NODE_ENV and global filled in', async () => {
    const folder = write({
      'funcatron.yaml': DOCUMENT,
      'index.ts': `import { from } from 'both'; declare const process: any; declare const global: any;
        export const getA = () => [from, process.env.NODE_ENV, typeof global.URL];`,
      'node_modules/both/package.json':
        '{"name":"both","type":"module","exports":{"node":"./node.js","browser":"./web.js","default":"./node.js"}}',
      'node_modules/both/node.js': `import 'node:fs'; export const from = 'node';`,
      'node_modules/both/web.js': `export const from = 'web';`,
    });
    const getA = run((await filesOf(folder)).code)['getA'] as () => unknown;
    assert.deepEqual(getA(), ['web', 'production', 'function']);
  });
});
