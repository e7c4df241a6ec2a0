import assert from 'node:assert/strict';
import { oneOperation } from './one-operation.ts';

const PET = {
  type: 'object',
  required: ['name', 'secret'],
  properties: { name: { type: 'string' }, secret: { type: 'string', writeOnly: true } },
};

async function check(responses: object) {
  const operation = await oneOperation({ responses });
  return (status: number, headers: Record<string, string | readonly string[]>, body: string) =>
    operation
      .checkResponse(status, headers, Buffer.from(body))
      .map((problem) => `${problem.pointer} ${problem.message}`);
}

describe('core/openapi/response', () => {
  const json = { 'content-type': 'application/json; charset=utf-8' };

  it('holds a status against the exact one, then its class, then default', async () => {
    const answer = (schema: object) => ({ description: '', content: { 'application/json': { schema } } });
    const of = await check({
      200: answer(PET),
      '4XX': answer({ type: 'string' }),
      default: answer({ type: 'integer' }),
    });
    assert.deepEqual(of(200, json, '{"name":"Rex"}'), []);
    assert.deepEqual(of(200, json, '{"name":1}'), ['/body/name must be string']);
    assert.deepEqual(of(404, json, '"gone"'), []);
    assert.deepEqual(of(500, json, '"gone"'), ['/body must be integer']);
  });

  it('refuses a status and a content type the document does not have', async () => {
    const of = await check({ 200: { description: '', content: { 'application/json': {} } }, 204: { description: '' } });
    assert.deepEqual(of(201, json, '{}'), ['/status 201 is not one of 200, 204']);
    assert.deepEqual(of(200, { 'content-type': 'text/html' }, '{}'), [
      '/header/content-type text/html is not one of application/json',
    ]);
    assert.deepEqual(of(200, {}, ''), ['/header/content-type no content type is not one of application/json']);
    assert.match(of(200, json, '{')[0] ?? '', /^\/body is not JSON/);
    assert.deepEqual(of(204, {}, ''), []);
  });

  it('checks declared headers, coerced from their text', async () => {
    const headers = {
      'X-Rate': { required: true, schema: { type: 'integer' } },
      'X-List': { schema: { type: 'array', items: { type: 'integer' } } },
    };
    const of = await check({ 200: { description: '', headers } });
    assert.deepEqual(of(200, { 'x-rate': '4', 'x-list': ['1', '2'] }, ''), []);
    assert.deepEqual(of(200, { 'x-list': '1,b' }, ''), [
      '/header/x-rate is required',
      '/header/x-list/1 must be integer',
    ]);
  });
});
