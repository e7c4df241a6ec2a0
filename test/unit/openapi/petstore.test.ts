import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createValidators } from '../../../core/openapi/compile.ts';
import { loadApi, type LoadedApi } from '../../../core/openapi/load.ts';
import { createRouter } from '../../../core/openapi/router.ts';
import { accepted, post, refused, request } from './one-operation.ts';

describe('core/openapi with the classic Petstore (Swagger 2.0)', () => {
  let loaded: LoadedApi;
  const operation = (id: string) => {
    const index = loaded.api.operations.findIndex((each) => each.operationId === id);
    return createValidators(loaded.api).operation(index);
  };

  before(async () => {
    const text = await readFile(new URL('../../fixtures/openapi/petstore.yaml', import.meta.url), 'utf8');
    loaded = await loadApi(text, { file: 'petstore.yaml' });
  });

  it('takes name, host, base path and operations from the document', () => {
    const { api, manifest } = loaded;
    assert.equal(manifest.name, 'swagger-petstore');
    assert.deepEqual([api.host, api.basePath, api.dialect], ['petstore.swagger.io', '/v2', 'draft-04']);
    assert.equal(api.operations.length, 12);
    assert.deepEqual(
      api.operations.filter((each) => each.mayRerun).map((each) => each.method),
      ['PUT', 'GET', 'GET', 'GET', 'DELETE', 'GET', 'GET', 'GET'],
    );
  });

  it('warns that its security is not enforced, where it is declared', () => {
    const places = loaded.warnings.map((warning) => `${warning.pointer} ${warning.line}`);
    assert.deepEqual(places, [
      '/paths/~1pet~1{petId}~1uploadImage/post/security 27',
      '/paths/~1pet~1{petId}/get/security 71',
    ]);
  });

  it('routes its paths, literals before templates', () => {
    const { api } = loaded;
    const router = createRouter(api.operations.map((each) => ({ ...api, ...each, value: each.operationId })));
    const match = router.match('petstore.swagger.io', 'GET', '/v2/pet/findByTags');
    assert.equal(match.kind === 'found' && match.value, 'findPetsByTags');
    assert.equal(router.match('petstore.swagger.io', 'POST', '/v2/pet/findByTags').kind, 'method');
    assert.equal(router.match('elsewhere', 'GET', '/v2/pet/7').kind, 'none');
  });

  it('reads a body that refers to definitions', () => {
    const addPet = operation('addPet');
    assert.equal(addPet.read(post('application/json', '{"name":"Rex","photoUrls":[]}')).ok, true);
    const result = addPet.read(post('application/json', '{"name":"Rex","tags":[{"id":"x"}],"status":"gone"}'));
    assert.deepEqual([...refused(result)].sort(), [
      '/body/photoUrls is required',
      '/body/status must be one of "available", "pending", "sold"',
      '/body/tags/0/id must be integer',
    ]);
    assert.equal(addPet.read(post('text/plain', '{}')).ok, false);
    assert.equal(addPet.read(post('application/xml', '<pet/>')).ok, true);
  });

  it('reads lists in their collection formats', () => {
    const byStatus = operation('findPetsByStatus').read(request({ queryString: 'status=sold&status=pending' }));
    assert.deepEqual(accepted(byStatus).query, { status: ['sold', 'pending'] });
    const byTags = operation('findPetsByTags').read(request({ queryString: 'tags=a,b' }));
    assert.deepEqual(accepted(byTags).query, { tags: ['a', 'b'] });
    assert.deepEqual(refused(operation('findPetsByStatus').read(request({ queryString: 'status=lost' }))), [
      '/query/status/0 must be one of "available", "pending", "sold"',
    ]);
  });

  it('coerces path parameters and holds them to their bounds', () => {
    const read = (orderId: string) => operation('getOrderById').read(request({ params: { orderId } }));
    assert.deepEqual(accepted(read('7')).params, { orderId: 7 });
    assert.deepEqual(refused(read('11')), ['/path/orderId must be <= 10']);
    assert.deepEqual(refused(read('1.5')), ['/path/orderId must be integer']);
  });

  it('makes a form of formData parameters', () => {
    const { content } = loaded.api.operations.find((each) => each.operationId === 'uploadFile')?.body ?? {
      content: {},
    };
    assert.deepEqual(Object.keys(content), ['multipart/form-data']);
    const update = operation('updatePetWithForm');
    const form = (text: string) => ({ ...post('application/x-www-form-urlencoded', text), params: { petId: '1' } });
    assert.equal(update.read(form('status=sold')).ok, true);
    assert.deepEqual(refused(update.read(form('name=Rex'))), ['/body/status is required']);
    assert.deepEqual(refused(update.read({ ...form(''), body: undefined })), ['/body is required']);
  });

  it('checks answers, their headers included', () => {
    const login = operation('loginUser');
    const headers = { 'content-type': 'application/json', 'x-rate-limit': '5' };
    assert.deepEqual(login.checkResponse(200, headers, Buffer.from('"token"')), []);
    const bad = login.checkResponse(
      200,
      { ...headers, 'x-rate-limit': 'many', 'x-expires-after': 'soon' },
      Buffer.from('7'),
    );
    assert.deepEqual(
      bad.map((problem) => `${problem.pointer} ${problem.message}`),
      [
        '/header/x-expires-after must be a valid date-time',
        '/header/x-rate-limit must be integer',
        '/body must be string',
      ],
    );
  });

  it('reads every collection format of every place', async () => {
    const places = [
      ['query', 'csv', 'a=1,2'],
      ['query', 'ssv', 'a=1%202'],
      ['query', 'tsv', 'a=1%092'],
      ['query', 'pipes', 'a=1|2'],
      ['query', 'multi', 'a=1&a=2'],
      ['path', 'csv', '1,2'],
      ['path', 'ssv', '1 2'],
      ['path', 'tsv', '1\t2'],
      ['path', 'pipes', '1|2'],
    ] as const;
    for (const [place, collectionFormat, text] of places) {
      const parameter = {
        name: 'a',
        in: place,
        required: true,
        type: 'array',
        items: { type: 'integer' },
        collectionFormat,
      };
      const path = place === 'path' ? '/it/{a}' : '/it';
      const get = { operationId: 'it', parameters: [parameter], responses: { 200: { description: '' } } };
      const document = { swagger: '2.0', info: { title: 'T', version: '1' }, paths: { [path]: { get } } };
      const { api } = await loadApi(JSON.stringify(document), { file: 'f.json' });
      const sent = place === 'path' ? request({ params: { a: text } }) : request({ queryString: text });
      const { params, query } = accepted(createValidators(api).operation(0).read(sent));
      assert.deepEqual(place === 'path' ? params : query, { a: [1, 2] }, `${place} ${collectionFormat}`);
    }
  });
});
