import assert from 'node:assert/strict';
import SwaggerParser from '@apidevtools/swagger-parser';
import { createMergedDocuments, mergeDocuments } from '../../../frontend/merged-document.ts';
import { Revision } from '../../../frontend/revision.ts';
import { createRouteTables } from '../../../frontend/route-table.ts';
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

  it('is made once for each table, and for each host its bundles name', () => {
    const shop = testBundle({ name: 'a', host: 'shop.test', operations: [add] });
    const [state] = shop.state.revisions;
    assert.ok(state !== undefined);
    const held = new Revision('a', state, shop.record);
    let record = shop.record;
    Object.defineProperty(held, 'record', { get: () => record });
    const bundles = [{ ...shop.state, weights: { [state.revision]: 100 } }];
    const tables = ['1.1', '1.2'].map((epoch) =>
      createRouteTables()(epoch as '1.1', bundles, new Map([[held.key, held]])),
    );
    const [first, second] = tables;
    const documents = createMergedDocuments();
    const pathsAt = (table: typeof first, host?: string): string[] =>
      Object.keys((JSON.parse(documents(table, host)) as { paths: object }).paths);
    assert.deepEqual(pathsAt(first, 'shop.test:8080'), ['/items']);
    assert.deepEqual(pathsAt(first, 'else.test'), []);
    assert.equal(documents(first, 'SHOP.test'), documents(first, 'shop.test'));
    assert.equal(documents(first, 'any.test'), documents(first, undefined));
    // Strings have no identity: a table that changes under the cache shows that it was not looked at again.
    record = { ...record, api: { ...record.api, title: 'changed' } };
    assert.ok(!documents(first, 'shop.test').includes('changed'));
    assert.ok(documents(second, 'shop.test').includes('changed'));
    assert.deepEqual(pathsAt(second, 'shop.test'), ['/items']);
    assert.deepEqual(pathsAt(undefined, 'shop.test'), []);
  });
});
