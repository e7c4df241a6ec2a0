import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FuncatronError } from '../../../core/errors.ts';
import { bundleRefs } from '../../../core/openapi/bundle-refs.ts';
import { createValidators } from '../../../core/openapi/compile.ts';
import { loadApi } from '../../../core/openapi/load.ts';
import { post, refused } from './one-operation.ts';

const HEAD = "openapi: 3.0.3\ninfo: { title: A, version: '1' }\n";
const EMPTY = `${HEAD}paths: {}\n`;

describe('core/openapi/bundle-refs', () => {
  let parent: string;
  let folder: string;

  beforeEach(async () => {
    parent = await realpath(await mkdtemp(join(tmpdir(), 'funcatron-refs-')));
    folder = join(parent, 'bundle');
    await mkdir(folder);
  });
  afterEach(() => rm(parent, { recursive: true, force: true }));

  async function write(files: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), text);
    }
  }

  async function problemOf(): Promise<string> {
    const failed: unknown = await bundleRefs(folder, 'funcatron.yaml').catch((error: unknown) => error);
    assert.ok(failed instanceof FuncatronError, String(failed));
    const [problem] = failed.data.problems ?? [];
    return `${problem?.file}:${problem?.line ?? ''} ${problem?.message}`;
  }

  it('leaves a document as it is that refers to no other file', async () => {
    const text = `# mine\n${HEAD}paths: {}\n`;
    await write({ 'funcatron.yaml': text });
    assert.equal(await bundleRefs(folder, 'funcatron.yaml'), text);
  });

  it('brings in files that refer to files, recursive ones too', async () => {
    await write({
      'funcatron.yaml': `${HEAD}paths: { /a: { $ref: ./api/paths.yaml#/a } }\n`,
      'api/paths.yaml': `a:
  post:
    operationId: a
    requestBody: { content: { application/json: { schema: { $ref: ./pet.json } } } }
    responses: { '200': { description: ok, content: { application/json: { schema: { $ref: './pet.json' } } } } }
`,
      'api/pet.json':
        '{ "type": "object", "required": ["name"], "properties": { "name": { "$ref": "../name.yaml" }, "child": { "$ref": "#" } } }',
      'name.yaml': 'type: string\nmaxLength: 3\n',
    });
    const text = await bundleRefs(folder, 'funcatron.yaml');
    assert.equal(await bundleRefs(folder, 'funcatron.yaml'), text);
    const { api } = await loadApi(text, { file: 'funcatron.yaml' });
    const result = createValidators(api).operation(0).read(post('application/json', '{"name":"Rexo","child":{}}'));
    assert.deepEqual([...refused(result)].sort(), [
      '/body/child/name is required',
      '/body/name must NOT have more than 3 characters',
    ]);
  });

  it('reads nothing outside the folder, neither by .. nor through a link', async () => {
    await writeFile(join(parent, 'secret.yaml'), 'type: string\n');
    const refer = (ref: string) =>
      write({ 'funcatron.yaml': `${EMPTY}components: { schemas: { A: { $ref: '${ref}' } } }\n` });
    await refer('../secret.yaml');
    assert.equal(await problemOf(), "../secret.yaml: $ref ../secret.yaml leads out of the bundle's folder");
    await refer('/etc/hostname');
    assert.match(await problemOf(), /leads out of the bundle's folder$/);
    await symlink(join(parent, 'secret.yaml'), join(folder, 'link.yaml'));
    await refer('link.yaml');
    assert.match(await problemOf(), /leads out of the bundle's folder$/);
    await refer('missing.yaml');
    assert.equal(await problemOf(), 'missing.yaml: $ref missing.yaml leads to a file that is not there');
  });

  it('refuses URLs with the place they stand at, in any file', async () => {
    await write({
      'funcatron.yaml': `${EMPTY}components: { schemas: { A: { $ref: 'https://example.com/a.yaml' } } }\n`,
    });
    assert.equal(await problemOf(), 'funcatron.yaml:4 $ref https://example.com/a.yaml is a URL');
    await write({
      'funcatron.yaml': `${EMPTY}components: { schemas: { A: { $ref: './a.yaml' } } }\n`,
      'a.yaml': 'type: object\nproperties:\n  b: { $ref: "http://127.0.0.1/b" }\n',
    });
    assert.match(await problemOf(), /^a\.yaml:3 \$ref http:\/\/127\.0\.0\.1\/b is a URL$/);
  });

  it('says in which file malformed YAML stands', async () => {
    await write({
      'funcatron.yaml': `${EMPTY}components: { schemas: { A: { $ref: a.yaml } } }\n`,
      'a.yaml': 'type: [\n',
    });
    assert.match(await problemOf(), /^a\.yaml:2 cannot be read as YAML or JSON/);
  });
});
