import assert from 'node:assert/strict';
import { FuncatronError } from '../../../core/errors.ts';
import { compileAll } from '../../../core/openapi/compile.ts';
import { editionValidator } from '../../../core/openapi/edition-schema.ts';
import { loadApi, type LoadOptions } from '../../../core/openapi/load.ts';

const HEAD = `openapi: 3.1.0
info: { title: Orders, version: '1' }
`;
const OK = `responses: { '200': { description: ok } }`;

/** `line:column pointer message` of everything that is wrong with a document. */
async function problemsOf(text: string, options: Partial<LoadOptions> = {}): Promise<readonly string[]> {
  try {
    await loadApi(text, { file: 'f.yaml', ...options });
  } catch (error) {
    assert.ok(error instanceof FuncatronError);
    assert.equal(error.code, 'INVALID_BUNDLE');
    return (error.data.problems ?? []).map((each) => {
      assert.equal(each.file, 'f.yaml');
      assert.ok(each.hint !== undefined, `nobody says what to do about ${each.message}`);
      return `${each.line}:${each.column} ${each.pointer} ${each.message}`;
    });
  }
  return [];
}

async function hintsOf(text: string, options: Partial<LoadOptions> = {}): Promise<readonly (string | undefined)[]> {
  const failed: unknown = await loadApi(text, { file: 'f.yaml', ...options }).catch((error: unknown) => error);
  assert.ok(failed instanceof FuncatronError);
  return (failed.data.problems ?? []).map((each) => each.hint);
}

describe('core/openapi/load', () => {
  it('says what to do about members that are missing, misspelled or of another type', async () => {
    const broken = `openapi: 3.1.0
info: { title: Orders }
servers: /shop
paths:
  /b:
    gte: { operationId: a }
  /a:
    post: { operationId: b, parameters: [{ name: q, in: query }], responses: { '200': {} } }
    put: { operationId: c, responses: 5 }
`;
    assert.deepEqual(await hintsOf(broken), [
      'For example version: 1.0.0',
      'For example servers: [{ url: /shop }]',
      'Did you mean get?',
      'For example schema: { type: string }',
      'For example description: the order',
      "For example responses: { '200': { description: the order } }",
    ]);
  });

  it('warns of an extension that is nearly called x-funcatron', async () => {
    const text = `${HEAD}x-funcaton: { memoryMb: 64 }\nx-other: 1\npaths: { /a: { get: { operationId: a, ${OK} } } }`;
    const { warnings } = await loadApi(text, { file: 'f.yaml' });
    assert.deepEqual(
      warnings.map(({ message, line, hint }) => [message, line, hint]),
      [['x-funcaton means nothing here', 3, 'Did you mean x-funcatron?']],
    );
  });

  it('makes the same Api of the same operation in 3.0 and 3.1', async () => {
    const text = `${HEAD}servers: [{ url: 'https://{region}.example.com/shop/{v}/', variables: { region: { default: eu }, v: { default: v1 } } }]
x-funcatron: { host: Shop.Example.com, timeoutMs: 5000, validateResponses: true }
paths:
  /orders/{id}:
    parameters:
      - { name: id, in: path, required: true, schema: { type: integer } }
      - { name: verbose, in: query, schema: { type: string } }
    put:
      operationId: putOrder
      summary: Put an order
      x-funcatron: { handler: put, timeoutMs: 100, idempotent: false }
      parameters: [{ $ref: '#/components/parameters/Verbose' }]
      requestBody: { $ref: '#/components/requestBodies/Order' }
      responses: { '2XX': { $ref: '#/components/responses/Order' } }
components:
  parameters: { Verbose: { name: verbose, in: query, schema: { type: boolean } } }
  requestBodies: { Order: { required: true, content: { application/json: { schema: { $ref: '#/components/schemas/Order' } } } } }
  responses: { Order: { description: it, content: { application/json: { schema: { $ref: '#/components/schemas/Order' } } } } }
  schemas:
    Order: { type: object, properties: { parts: { type: array, items: { $ref: '#/components/schemas/Order' } } } }
    Unused: { type: string }
`;
    const { api } = await loadApi(text, { file: 'f.yaml', exports: ['put'] });
    const order = { $ref: '#/components/schemas/Order' };
    const style = { style: 'form', explode: true };
    assert.deepEqual(api, {
      title: 'Orders',
      version: '1',
      host: 'shop.example.com',
      basePath: '/shop/v1',
      dialect: '2020-12',
      definitions: {
        components: { schemas: { Order: { type: 'object', properties: { parts: { type: 'array', items: order } } } } },
      },
      operations: [
        {
          operationId: 'putOrder',
          method: 'PUT',
          path: '/orders/{id}',
          handler: 'put',
          summary: 'Put an order',
          timeoutMs: 100,
          mayRerun: false,
          validateResponses: true,
          http: true,
          parameters: [
            { name: 'id', in: 'path', required: true, schema: { type: 'integer' }, style: 'simple', explode: false },
            { name: 'verbose', in: 'query', required: false, schema: { type: 'boolean' }, ...style },
          ],
          body: { required: true, content: { 'application/json': { schema: order } } },
          responses: { '2XX': { content: { 'application/json': { schema: order } } } },
        },
      ],
    });
    const older = await loadApi(text.replace('3.1.0', '3.0.3'), { file: 'f.yaml' });
    assert.deepEqual({ ...older.api, dialect: '2020-12' }, api);
  });

  it('takes the base path from the first server, whatever form its URL has', async () => {
    const basePathOf = async (url: string) => {
      const { api } = await loadApi(
        `${HEAD}servers: [{ url: "${url}" }]\npaths: { /a: { get: { operationId: a, ${OK} } } }`,
        { file: 'f' },
      );
      return api.basePath;
    };
    const urls = [
      '/',
      '/shop',
      '/shop/',
      'https://a.example',
      'https://a.example:80/x/y/',
      '//a.example/x',
      './',
      'rel/path',
      '/x?y#z',
    ];
    assert.deepEqual(await Promise.all(urls.map(basePathOf)), [
      '',
      '/shop',
      '/shop',
      '',
      '/x/y',
      '/x',
      '',
      '/rel/path',
      '/x',
    ]);
  });

  it('finds every problem of a document in one go, in the order of its lines', async () => {
    const text = `${HEAD}x-funcatron: { timeoutms: 5, direct: {} }
paths:
  /a/{x}:
    get:
      operationId: getA
      parameters: [{ name: y, in: path, required: true, schema: { type: integer } }]
      ${OK}
  /a/{y}:
    get:
      operationId: getA
      parameters:
        - { name: y, in: path, required: true, schema: { type: string, pattern: '^(?=a)' } }
        - { name: q, in: qurey, schema: {} }
        - { name: r, in: query, schema: { $ref: '#/components/schemas/Oder' } }
        - { name: r, in: query, schema: { $ref: 'https://example.com/a.json' } }
      ${OK}
    post: { ${OK} }
components: { schemas: { Order: {} } }
`;
    assert.deepEqual(await problemsOf(text, { exports: ['getB'] }), [
      '3:16 /x-funcatron/timeoutms timeoutms is not a key of x-funcatron',
      '3:30 /x-funcatron/direct direct must be true or false, not a mapping of keys',
      '6:5 /paths/~1a~1{x}/get path parameter {x} is not declared',
      '7:7 /paths/~1a~1{x}/get/operationId the code does not export getA: it exports getB',
      '8:20 /paths/~1a~1{x}/get/parameters/0 path parameter y is not in the path /a/{x}',
      '10:3 /paths/~1a~1{y} path /a/{y} cannot be told apart from /a/{x}',
      '12:7 /paths/~1a~1{y}/get/operationId operationId getA is already that of GET /a/{x}',
      '12:7 /paths/~1a~1{y}/get/operationId the code does not export getA: it exports getB',
      '14:72 /paths/~1a~1{y}/get/parameters/0/schema/pattern pattern ^(?=a) cannot be run in linear time: error parsing regexp: invalid or unsupported Perl syntax: `(?=`',
      '15:22 /paths/~1a~1{y}/get/parameters/1/in in qurey is not one of query, header, path, cookie',
      '16:43 /paths/~1a~1{y}/get/parameters/2/schema/$ref $ref #/components/schemas/Oder leads nowhere',
      '17:11 /paths/~1a~1{y}/get/parameters/3 parameter query r is declared twice',
      '17:43 /paths/~1a~1{y}/get/parameters/3/schema/$ref $ref https://example.com/a.json does not begin with #/',
      '19:5 /paths/~1a~1{y}/post POST /a/{y} has no operationId',
      '19:5 /paths/~1a~1{y}/post path parameter {y} is not declared',
    ]);
  });

  it('says what was probably meant', async () => {
    const text = `${HEAD}x-funcatron: { memorymb: 64 }
paths:
  /a/{id}:
    get: { operationId: gteA, parameters: [{ name: ID, in: path, required: true, schema: { $ref: '#/components/schemas/Oder' } }], ${OK} }
components: { schemas: { Order: {} } }
`;
    const hints = await hintsOf(text, { exports: ['getA', 'other'] });
    assert.deepEqual(
      ['memoryMb', 'getA', 'ID', 'Order'].filter((word) => !hints.includes(`Did you mean ${word}?`)),
      [],
    );
  });

  const broken: readonly (readonly [string, string, string])[] = [
    [
      'an operationId a routing key cannot hold',
      `paths: { /a: { get: { operationId: 'get a', ${OK} } } }`,
      'cannot be used in a routing key',
    ],
    [
      'an operationId of 151 characters',
      `paths: { /a: { get: { operationId: ${'a'.repeat(151)}, ${OK} } } }`,
      'cannot be used in a routing key',
    ],
    [
      'a handler that is a hook',
      `paths: { /a: { get: { operationId: init, ${OK} } } }`,
      'init is not the name of a func',
    ],
    ['no operation', 'paths: {}', 'declares no operation'],
    ['braces that do not match', `paths: { '/a/{x': { get: { operationId: a, ${OK} } } }`, 'has a { without its }'],
    ['a parameter twice in a path', `paths: { '/{x}/{x}': { get: { operationId: a, ${OK} } } }`, 'uses {x} twice'],
    [
      'parameters side by side',
      `paths: { '/{x}{y}': { get: { operationId: a, ${OK} } } }`,
      'has nothing between {x} and {y}',
    ],
    ['a dot segment', `paths: { /a/../b: { get: { operationId: a, ${OK} } } }`, 'has a dot segment'],
    ['a bad encoding', `paths: { /a%zz: { get: { operationId: a, ${OK} } } }`, 'malformed percent-encoding'],
    [
      'a path of the frontend',
      `paths: { /_funcatron/x: { get: { operationId: a, ${OK} } } }`,
      'belongs to the frontend',
    ],
    [
      'x-funcatron where it means nothing',
      `paths: { /a: { x-funcatron: {}, get: { operationId: a, ${OK} } } }`,
      'means nothing here',
    ],
    [
      'a server variable without default',
      `servers: [{ url: '/{v}' }]\npaths: { /a: { get: { operationId: a, ${OK} } } }`,
      'variable without a default',
    ],
    [
      'a style that does not fit',
      `paths: { /a: { get: { operationId: a, parameters: [{ name: q, in: query, style: matrix, schema: {} }], ${OK} } } }`,
      'matrix',
    ],
    [
      'a status that is none',
      `paths: { /a: { get: { operationId: a, responses: { '600': { description: x } } } } }`,
      '600',
    ],
    [
      'a bad type in a schema',
      `paths: { /a: { get: { operationId: a, parameters: [{ name: q, in: query, schema: { type: strnig } }], ${OK} } } }`,
      'must be one of',
    ],
    [
      'a schema that moves its base',
      `paths: { /a: { get: { operationId: a, parameters: [{ name: q, in: query, schema: { $id: 'http://x/' } }], ${OK} } } }`,
      '$id is not in this version',
    ],
    [
      'a reference to itself',
      `paths: { /a: { get: { operationId: a, parameters: [{ name: q, in: query, schema: { $ref: '#/components/schemas/A' } }], ${OK} } } }\ncomponents: { schemas: { A: { $ref: '#/components/schemas/B' }, B: { $ref: '#/components/schemas/A' } } }`,
      'leads back to itself',
    ],
    ['a local file', `paths: { /a: { $ref: '/etc/hostname' } }`, '$ref /etc/hostname does not begin with #/'],
    ['a key that is no key', `pahts: {}\npaths: { /a: { get: { operationId: a, ${OK} } } }`, 'pahts'],
    [
      'a timeout an HTTP call cannot have',
      `x-funcatron: { timeoutMs: 0 }\npaths: { /a: { get: { operationId: a, ${OK} } } }`,
      'timeoutMs 0 is not 1',
    ],
    [
      'a parameter named __proto__',
      `paths: { /a: { get: { operationId: a, parameters: [{ name: __proto__, in: query, schema: {} }], ${OK} } } }`,
      'name that cannot be used',
    ],
    [
      'a remote reference under a name that is also a keyword',
      `paths: { /a: { get: { operationId: a, responses: { default: { $ref: 'http://x/y' } } } } }`,
      '$ref http://x/y does not begin with #/',
    ],
  ];
  for (const [what, rest, message] of broken) {
    it(`refuses ${what}`, async () => {
      const problems = await problemsOf(HEAD + rest);
      assert.ok(
        problems.some((problem) => problem.includes(message)),
        JSON.stringify(problems),
      );
      assert.ok(problems.length <= 3, JSON.stringify(problems));
    });
  }

  it('refuses versions it does not read, with what to write instead', async () => {
    const of = (head: string) => problemsOf(`${head}\ninfo: { title: A, version: '1' }\npaths: {}\n`);
    assert.deepEqual(await of('openapi: 3.2.0'), ['1:1 /openapi openapi "3.2.0" is not in this version']);
    assert.deepEqual(await of('openapi: 3.0'), ['1:1 /openapi openapi 3 is not a version that is read']);
    assert.deepEqual(await of('swagger: 2.0'), ['1:1 /swagger swagger 2 is not a version that is read']);
    assert.deepEqual(await of('hello: 1'), ['1:1  says neither swagger nor openapi']);
    assert.deepEqual(await problemsOf('openapi: 3.1.0\ninfo: { title: A, version: 1.0 }\npaths: {}\n'), [
      '2:19 /info/version version 1 is a number, not text',
      '3:1 /paths the document declares no operation',
    ]);
  });

  it('reports a typing mistake once, not once for every branch it fails in', async () => {
    for (const version of ['3.0.3', '3.1.0']) {
      const text = `${HEAD.replace('3.1.0', version)}paths: { /a: { get: { operationId: a, parameters: [{ name: q, in: pth, schema: {} }], ${OK} } } }`;
      const problems = await problemsOf(text);
      assert.equal(problems.length, 1, JSON.stringify(problems));
      assert.match(problems[0] ?? '', /in pth is not one of /);
    }
  });

  it('looks lines up in what the author wrote where references were brought in', async () => {
    const original = `${HEAD}paths:\n  /a:\n    $ref: ./a.yaml\n`;
    const text = JSON.stringify({ openapi: '3.1.0', info: { title: 'A', version: '1' }, paths: { '/a': { get: {} } } });
    const problems = await problemsOf(text, { original });
    assert.deepEqual(
      problems.filter((problem) => !problem.startsWith('4:3 /paths/~1a')),
      [],
    );
  });

  it('lets other work run while it builds, and again while it compiles, each operation', async () => {
    const operations = 50;
    const paths = Array.from({ length: operations }, (_, n) => `  /a${n}: { get: { operationId: a${n}, ${OK} } }`);
    let turns = 0;
    let isLoading = true;
    const count = (): void => {
      turns++;
      if (isLoading) setImmediate(count);
    };
    setImmediate(count);
    await loadApi(`${HEAD}paths:\n${paths.join('\n')}\n`, { file: 'f.yaml' });
    isLoading = false;
    assert.ok(turns >= 2 * operations, `${turns} turns`);
  });

  it('refuses definitions that lead on to one another deeper than the stack', async () => {
    const length = 5_000;
    const ref = (n: number) => `{ properties: { next: { $ref: '#/components/schemas/S${n}' } } }`;
    const schemas = Array.from({ length }, (_, n) => `    S${n}: ${n < length - 1 ? ref(n + 1) : '{}'}`);
    const body = `requestBody: { content: { application/json: { schema: ${ref(0)} } } }`;
    const paths = `paths: { /a: { put: { operationId: a, ${body}, ${OK} } } }`;
    const problems = await problemsOf(`${HEAD}${paths}\ncomponents:\n  schemas:\n${schemas.join('\n')}\n`);
    assert.deepEqual(problems, ['3:1 /paths refers on from definition to definition too deeply to be read']);
  });

  it('looks at no more schemas than ten that cannot be compiled', async () => {
    const text = `${HEAD}paths: { /a: { get: { operationId: a, parameters: [{ name: q, in: query, schema: {} }], ${OK} } } }`;
    const { api } = await loadApi(text, { file: 'f.yaml' });
    const bad = api.operations.map((each) => ({
      ...each,
      parameters: each.parameters.map((parameter) => ({ ...parameter, schema: { type: 'strnig' } })),
    }));
    const operations = Array.from({ length: 15 }, () => bad).flat();
    assert.equal((await compileAll({ ...api, operations })).length, 10);
  });

  it('makes the validator of an edition once in a process', () => {
    for (const edition of ['2.0', '3.0', '3.1'] as const) {
      assert.equal(editionValidator(edition), editionValidator(edition));
    }
  });

  it('warns where the document asks for what this version does not do', async () => {
    const text = `${HEAD}security: [{ key: [] }]
paths: { /a: { get: { operationId: a, security: [{}], servers: [{ url: /x }], ${OK} } } }
components: { securitySchemes: { key: { type: apiKey, in: header, name: k } } }
`;
    const { warnings } = await loadApi(text, { file: 'f.yaml' });
    assert.deepEqual(
      warnings.map(({ pointer, line, column, file }) => [pointer, line, column, file]),
      [
        ['/security', 3, 1, 'f.yaml'],
        ['/paths/~1a/get/servers', 4, 55, 'f.yaml'],
      ],
    );
  });

  it('does not change what it was given, and yields plain JSON', async () => {
    const text = `${HEAD}paths: { /a: { get: { operationId: a, ${OK} } } }`;
    const loaded = await loadApi(text, { file: 'f.yaml' });
    assert.deepEqual(JSON.parse(JSON.stringify(loaded.api)), loaded.api);
    assert.deepEqual(loaded.document, {
      openapi: '3.1.0',
      info: { title: 'Orders', version: '1' },
      paths: { '/a': { get: { operationId: 'a', responses: { 200: { description: 'ok' } } } } },
    });
  });

  it('takes references to anywhere in the document, and names of any letters', async () => {
    const text = `openapi: 3.0.3
info: { title: A, version: '1' }
paths:
  /a:
    post:
      operationId: a
      requestBody: { content: { application/json: { schema: { $ref: '#/components/schemas/A~1b%20c' } } } }
      responses: { '200': { description: ok, content: { application/json: { schema: { $ref: '#/paths/~1a/post/requestBody/content/application~1json/schema' } } } } }
components:
  schemas:
    'A/b c': { type: object, properties: { id: { $ref: '#/components/schemas/id' }, deep: { $ref: '#/components/schemas/id/properties/x' } } }
    id: { type: object, properties: { x: { type: integer } } }
`;
    assert.deepEqual(await problemsOf(text), []);
  });
});
