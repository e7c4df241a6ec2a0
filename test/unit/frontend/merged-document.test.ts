import assert from 'node:assert/strict';
import SwaggerParser from '@apidevtools/swagger-parser';
import { mergeDocuments } from '../../../frontend/merged-document.ts';
import { Revision } from '../../../frontend/revision.ts';
import { testBundle, type TestBundleOptions } from '../../helpers/live-bundle.ts';

function revision(options: TestBundleOptions, dialect: 'draft-04' | '2020-12'): Revision {
  const { state, record } = testBundle(options);
  const [revisionState] = state.revisions;
  assert.ok(revisionState !== undefined);
  return new Revision(state.name, revisionState, { ...record, api: { ...record.api, dialect } });
}

const content = { 'application/json': { schema: { $ref: '#/components/schemas/Item' } } };
const add = {
  operationId: 'add',
  method: 'POST',
  path: '/items',
  body: { required: true, content },
  responses: { '200': { content } },
};

describe('frontend/merged-document', () => {
  it('is a valid OpenAPI 3.1 document in which schemas of two bundles do not mix', async () => {
    const modern = {
      name: 'a',
      basePath: '/a',
      operations: [add],
      definitions: { components: { schemas: { Item: { type: 'string' } } } },
    };
    const item = { type: 'number', minimum: 0, exclusiveMinimum: true, nullable: true };
    const old = {
      name: 'b',
      basePath: '/b',
      operations: [add],
      definitions: { components: { schemas: { Item: item } } },
    };
    const document = mergeDocuments([revision(modern, '2020-12'), revision(old, 'draft-04')], 'localhost');
    assert.deepEqual(Object.keys(document['paths'] as object), ['/a/items', '/b/items']);
    assert.deepEqual(document['components'], {
      schemas: { 'a.Item': { type: 'string' }, 'b.Item': { type: ['number', 'null'], exclusiveMinimum: 0 } },
    });
    const copy = structuredClone(document) as unknown as Parameters<typeof SwaggerParser.validate>[0];
    await SwaggerParser.validate(copy, { resolve: { file: false, http: false } });
  });

  it('holds the bundles that answer the host that was asked', () => {
    const shop = revision({ name: 'a', host: 'shop.test', operations: [add] }, '2020-12');
    const any = revision({ name: 'b', basePath: '/b', operations: [add] }, '2020-12');
    const pathsAt = (host: string): string[] => Object.keys(mergeDocuments([shop, any], host)['paths'] as object);
    assert.deepEqual(pathsAt('shop.test:80'), ['/items', '/b/items']);
    assert.deepEqual(pathsAt('else.test'), ['/b/items']);
  });

  it('leaves out operations that HTTP does not reach', () => {
    const events = revision({ operations: [{ ...add, http: false }] }, '2020-12');
    assert.deepEqual(mergeDocuments([events], undefined)['paths'], {});
  });
});
