import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { accepted, oneOperation, post, refused, request } from './one-operation.ts';

const JSON_TYPE = 'application/json';

function body(content: object, required = true): { requestBody: object } {
  return { requestBody: { required, content } };
}

describe('core/openapi/body', () => {
  it('lists every violation of a JSON body with its pointer', async () => {
    const schema = {
      type: 'object',
      required: ['id', 'items'],
      additionalProperties: false,
      properties: {
        id: { type: 'integer' },
        items: {
          type: 'array',
          items: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } },
        },
      },
    };
    const operation = await oneOperation(body({ [JSON_TYPE]: { schema } }));
    assert.equal(operation.read(post(JSON_TYPE, '{"id":1,"items":[{"name":"a"}]}')).ok, true);
    const result = operation.read(post(JSON_TYPE, '{"id":"1","items":[{"name":2},{}],"a/b":1}'));
    assert.deepEqual([...refused(result)].sort(), [
      '/body/a~1b is not allowed',
      '/body/id must be integer',
      '/body/items/0/name must be string',
      '/body/items/1/name is required',
    ]);
  });

  it('does not coerce JSON and does not fill in its defaults: the bytes go on as received', async () => {
    const schema = { type: 'object', properties: { n: { type: 'integer', default: 1 } } };
    const operation = await oneOperation(body({ [JSON_TYPE]: { schema } }));
    const bytes = Buffer.from('{ }');
    assert.equal(operation.read(request({ headers: { 'content-type': JSON_TYPE }, body: bytes })).ok, true);
    assert.equal(bytes.toString(), '{ }');
    assert.deepEqual(refused(operation.read(post(JSON_TYPE, '{"n":"1"}'))), ['/body/n must be integer']);
  });

  it('refuses malformed JSON and text that is not UTF-8, with or without a schema', async () => {
    for (const media of [{}, { schema: { type: 'object' } }]) {
      const operation = await oneOperation(body({ [JSON_TYPE]: media }));
      assert.match(refused(operation.read(post(JSON_TYPE, '{"a":')))[0] ?? '', /^\/body is not JSON: /);
      assert.deepEqual(refused(operation.read(post(JSON_TYPE, Buffer.from([0x22, 0xff, 0x22])))), [
        '/body is not text in its charset',
      ]);
    }
  });

  it('answers 415 for a content type that is not declared, missing or malformed', async () => {
    const operation = await oneOperation(body({ [JSON_TYPE]: {} }));
    for (const type of ['text/plain', undefined, 'nonsense', 'application/x-www-form-urlencoded']) {
      const result = operation.read(post(type, '{}'));
      assert.equal(result.ok ? '' : result.code, 'UNSUPPORTED_MEDIA_TYPE', String(type));
      assert.equal(refused(result).length, 1);
    }
    const coded = operation.read(
      request({ headers: { 'content-type': JSON_TYPE, 'content-encoding': 'gzip' }, body: Buffer.from('x') }),
    );
    assert.equal(coded.ok ? '' : coded.code, 'UNSUPPORTED_MEDIA_TYPE');
  });

  it('takes content types in any case, with parameters, and by their range', async () => {
    const operation = await oneOperation(
      body({ 'Application/JSON; charset=utf-8': { schema: { type: 'object' } }, 'image/*': {}, 'text/plain': {} }),
    );
    assert.equal(operation.read(post('APPLICATION/json;charset="UTF-8"', '{}')).ok, true);
    assert.equal(operation.read(post('application/json', '[]')).ok, false);
    assert.equal(operation.read(post('image/png', randomBytes(8))).ok, true);
    assert.equal(operation.read(post('video/mp4', 'x')).ok, false);
    const any = await oneOperation(body({ '*/*': { schema: { type: 'object' } } }));
    assert.equal(any.read(post('application/vnd.a+json', '[]')).ok, false);
    assert.equal(any.read(post('application/octet-stream', '[]')).ok, true);
    assert.equal(any.read(post(undefined, '[]')).ok, true);
  });

  it('asks for a body where one is required, and for no content type where none came', async () => {
    const required = await oneOperation(body({ [JSON_TYPE]: {} }));
    const optional = await oneOperation(body({ [JSON_TYPE]: {} }, false));
    assert.deepEqual(refused(required.read(request())), ['/body is required']);
    assert.deepEqual(refused(required.read(post(JSON_TYPE, ''))), ['/body is required']);
    assert.equal(optional.read(request()).ok, true);
    assert.equal(optional.read(post(JSON_TYPE, '{')).ok, false);
  });

  it('leaves a body alone that the operation does not declare', async () => {
    assert.equal((await oneOperation({})).read(post('x/y', 'anything')).ok, true);
  });

  it('says which bodies are text', async () => {
    const operation = await oneOperation({});
    const types = [
      'application/json',
      'a/b+json',
      'text/csv',
      'application/x-www-form-urlencoded',
      'image/png',
      'multipart/form-data; boundary=a',
    ];
    const text = types.map((type) => accepted(operation.read(post(type, 'x'))).isText);
    assert.deepEqual(text, [true, true, true, true, false, false]);
  });

  it('reads a form like query parameters, coerced, objects as JSON', async () => {
    const schema = {
      type: 'object',
      required: ['n'],
      properties: {
        n: { type: 'integer', minimum: 2 },
        tags: { type: 'array', items: { type: 'integer' } },
        csv: { type: 'array', items: { type: 'string' }, maxItems: 2 },
        address: { type: 'object', required: ['zip'] },
      },
    };
    const type = 'application/x-www-form-urlencoded';
    const operation = await oneOperation(
      body({ [type]: { schema, encoding: { csv: { style: 'form', explode: false } } } }),
    );
    const good = `n=2&tags=1&tags=2&csv=a,b&address=${encodeURIComponent('{"zip":1}')}&more=x+y`;
    assert.equal(operation.read(post(type, good)).ok, true);
    assert.deepEqual(refused(operation.read(post(type, 'n=1&tags=a&csv=a,b,c&address=%7B%7D'))), [
      '/body/n must be >= 2',
      '/body/tags/0 must be integer',
      '/body/csv must NOT have more than 2 items',
      '/body/address/zip is required',
    ]);
    assert.deepEqual(refused(operation.read(post(type, 'n=%zz'))), ['/body has malformed percent-encoding']);
  });

  it('reads multipart as clients write it: fields, lists, JSON parts and files', async () => {
    const schema = {
      type: 'object',
      required: ['title', 'file'],
      properties: {
        title: { type: 'string', maxLength: 5 },
        n: { type: 'integer' },
        meta: { type: 'object', required: ['a'] },
        file: { type: 'string', format: 'binary', minLength: 1 },
        more: { type: 'array', items: { type: 'string', format: 'binary' }, maxItems: 1 },
      },
    };
    const operation = await oneOperation(body({ 'multipart/form-data': { schema } }));
    const send = async (fill: (form: FormData) => void) => {
      const form = new FormData();
      fill(form);
      const encoded = new Response(form);
      return post(encoded.headers.get('content-type') ?? '', Buffer.from(await encoded.arrayBuffer()));
    };
    const good = await send((form) => {
      form.set('title', 'häll');
      form.set('n', '4');
      form.set('meta', '{"a":1}');
      form.set('file', new Blob([randomBytes(2_000)]), 'a "b".bin');
      form.append('more', new Blob(['x']), 'x');
    });
    assert.deepEqual(accepted(operation.read(good)).isText, false);
    const bad = await send((form) => {
      form.set('title', 'much too long');
      form.set('n', 'four');
      form.set('meta', '{}');
      form.append('more', new Blob(['x']), 'x');
      form.append('more', new Blob(['y']), 'y');
    });
    assert.deepEqual([...refused(operation.read(bad))].sort(), [
      '/body/file is required',
      '/body/meta/a is required',
      '/body/more must NOT have more than 1 items',
      '/body/n must be integer',
      '/body/title must NOT have more than 5 characters',
    ]);
  });

  it('refuses multipart that is none', async () => {
    const operation = await oneOperation(body({ 'multipart/form-data': {} }));
    const type = 'multipart/form-data; boundary=b';
    const head = 'content-disposition: form-data; name="a"\r\n\r\n';
    assert.equal(operation.read(post(type, `--b\r\n${head}1\r\n--b--\r\n`)).ok, true);
    assert.equal(operation.read(post(type, `preamble\r\n--b\r\n${head}\r\n--b--`)).ok, true);
    for (const text of [
      '',
      '--b',
      '--b\r\n',
      `--b\r\n${head}1`,
      '--c--',
      '--b\r\nx\r\n--b--',
      '--b\r\nx: y\r\n\r\n1\r\n--b--',
      'x--b--',
    ]) {
      assert.equal(operation.read(post(type, `${text} `)).ok, false, JSON.stringify(text));
    }
    assert.equal(operation.read(post('multipart/form-data', `--b\r\n${head}1\r\n--b--`)).ok, false);
    const parts = `--b\r\n${head}1\r\n`.repeat(1_001);
    assert.deepEqual(refused(operation.read(post(type, `${parts}--b--`))), ['/body has more than 1000 parts']);
  });

  it('checks text against its schema, in its charset', async () => {
    const schema = { type: 'string', maxLength: 3 };
    const operation = await oneOperation(body({ 'text/*': { schema } }));
    assert.equal(operation.read(post('text/plain', 'äöü')).ok, true);
    assert.equal(operation.read(post('text/plain; charset=iso-8859-1', Buffer.from('äöü', 'latin1'))).ok, true);
    assert.equal(operation.read(post('text/plain', Buffer.from('äöü', 'latin1'))).ok, false);
    assert.equal(operation.read(post('text/plain; charset=klingon', 'a')).ok, false);
    assert.deepEqual(refused(operation.read(post('text/csv', 'abcd'))), ['/body must NOT have more than 3 characters']);
  });

  it('speaks the dialect of the edition', async () => {
    const content = (schema: object) => body({ [JSON_TYPE]: { schema } });
    const old = await oneOperation(content({ type: 'integer', minimum: 1, exclusiveMinimum: true, nullable: true }));
    assert.deepEqual(refused(old.read(post(JSON_TYPE, '1'))), ['/body must be > 1']);
    assert.equal(old.read(post(JSON_TYPE, 'null')).ok, true);
    const recent = await oneOperation(
      content({
        type: ['array', 'null'],
        prefixItems: [{ const: 'a' }, { type: 'integer', exclusiveMinimum: 1 }],
        items: false,
      }),
      { openapi: '3.1.0' },
    );
    assert.equal(recent.read(post(JSON_TYPE, '["a",2]')).ok, true);
    assert.equal(recent.read(post(JSON_TYPE, 'null')).ok, true);
    assert.equal(recent.read(post(JSON_TYPE, '["b",1,0]')).ok, false);
  });

  it('does not require readOnly members of a request', async () => {
    const schema = {
      type: 'object',
      required: ['id', 'name'],
      properties: { id: { type: 'integer', readOnly: true }, name: { type: 'string' } },
    };
    const operation = await oneOperation(body({ [JSON_TYPE]: { schema } }));
    assert.equal(operation.read(post(JSON_TYPE, '{"name":"a"}')).ok, true);
    assert.deepEqual(refused(operation.read(post(JSON_TYPE, '{"id":1}'))), ['/body/name is required']);
  });

  it('follows a discriminator, mapped or not, to the one schema meant', async () => {
    const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
    const schemas = {
      Cat: {
        type: 'object',
        required: ['lives'],
        properties: { kind: { type: 'string' }, lives: { type: 'integer' } },
      },
      Dog: { type: 'object', required: ['bark'], properties: { kind: { type: 'string' }, bark: { type: 'string' } } },
    };
    const discriminator = { propertyName: 'kind', mapping: { meow: '#/components/schemas/Cat' } };
    for (const openapi of ['3.0.3', '3.1.0']) {
      const schema = { oneOf: [ref('Cat'), ref('Dog')], discriminator };
      const operation = await oneOperation(body({ [JSON_TYPE]: { schema } }), { openapi, schemas });
      assert.equal(operation.read(post(JSON_TYPE, '{"kind":"meow","lives":7}')).ok, true);
      assert.equal(operation.read(post(JSON_TYPE, '{"kind":"Dog","bark":"wow"}')).ok, true);
      assert.deepEqual(refused(operation.read(post(JSON_TYPE, '{"kind":"Dog","bark":1}'))), [
        '/body/bark must be string',
      ]);
      assert.deepEqual(refused(operation.read(post(JSON_TYPE, '{"kind":"Cow"}'))), [
        '/body/kind must be one of "Cat", "Dog", "meow"',
      ]);
      assert.deepEqual(refused(operation.read(post(JSON_TYPE, '[]'))), ['/body must be object']);
    }
  });

  it('checks recursive schemas, and refuses what is nested too deeply to be checked', async () => {
    const tree = {
      type: 'object',
      properties: { name: { type: 'string' }, child: { $ref: '#/components/schemas/Tree' } },
    };
    const content = { [JSON_TYPE]: { schema: { $ref: '#/components/schemas/Tree' } } };
    const operation = await oneOperation(body(content), { schemas: { Tree: tree } });
    const nest = (depth: number, leaf: string) => '{"child":'.repeat(depth) + leaf + '}'.repeat(depth);
    assert.equal(operation.read(post(JSON_TYPE, nest(50, '{"name":"a"}'))).ok, true);
    assert.deepEqual(refused(operation.read(post(JSON_TYPE, nest(2, '{"name":1}')))), [
      '/body/child/child/name must be string',
    ]);
    assert.deepEqual(refused(operation.read(post(JSON_TYPE, nest(90_000, '{}')))), [
      '/body is nested too deeply to be checked',
    ]);
  });

  it('lists at most 100 violations', async () => {
    const schema = { type: 'array', items: { type: 'integer' } };
    const operation = await oneOperation(body({ [JSON_TYPE]: { schema } }));
    const result = operation.read(post(JSON_TYPE, JSON.stringify(Array.from({ length: 5_000 }, () => 'x'))));
    assert.equal(refused(result).length, 100);
  });

  it('finds equal items of a list whatever the order of their members', async () => {
    const schema = { type: 'array', uniqueItems: true };
    const operation = await oneOperation(body({ [JSON_TYPE]: { schema } }));
    for (const list of ['[1,"1",true,"true",null,"null",[1],["1"],{"a":1},"{\\"a\\":1}"]', '[]']) {
      assert.equal(operation.read(post(JSON_TYPE, list)).ok, true, list);
    }
    for (const list of ['[1,1.0]', '["a","a"]', '[{"a":1,"b":[2]},{"b":[2],"a":1}]', '[null,null]']) {
      assert.deepEqual(
        refused(operation.read(post(JSON_TYPE, list))),
        ['/body must not hold the same item twice'],
        list,
      );
    }
  });
});
