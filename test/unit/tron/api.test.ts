import assert from 'node:assert/strict';
import { objectAt, isObject } from '../../../core/openapi/json.ts';
import type { Api, JsonObject } from '../../../core/openapi/api.ts';
import { renderDocs } from '../../../tron/docs-page.ts';
import { createEndpoints, type EndpointOptions } from '../../../tron/endpoints.ts';
import { loadManagementApi } from '../../../tron/management-api.ts';

describe('tron/endpoints', () => {
  let api: Api;
  let document: JsonObject;
  before(async () => {
    ({ api, document } = await loadManagementApi());
  });

  // Making them touches nothing of what they work with.
  const endpoints = () => createEndpoints({ document } as unknown as EndpointOptions);

  function operationsOf(): { operationId: unknown; security: unknown; content: string[] }[] {
    return Object.values(objectAt(document, 'paths')).flatMap((item) =>
      Object.entries(isObject(item) ? item : {})
        .filter(([method]) => ['get', 'post', 'put', 'delete'].includes(method))
        .map(([, operation]) => ({
          operationId: objectAt({ operation }, 'operation')['operationId'],
          security: objectAt({ operation }, 'operation')['security'],
          content: Object.keys(objectAt(objectAt(objectAt({ operation }, 'operation'), 'requestBody'), 'content')),
        })),
    );
  }

  it('has exactly the operations of swagger/tron.yaml', () => {
    assert.deepEqual(Object.keys(endpoints()).sort(), api.operations.map(({ operationId }) => operationId).sort());
  });

  it('needs no token exactly where the document says so', () => {
    const open = Object.entries(endpoints()).filter(([, endpoint]) => endpoint.isOpen === true);
    const declared = operationsOf().filter(({ security }) => Array.isArray(security) && security.length === 0);
    assert.deepEqual(
      open.map(([operationId]) => operationId),
      declared.map(({ operationId }) => operationId),
    );
  });

  it('streams exactly the uploads', () => {
    const streamed = Object.entries(endpoints()).filter(([, endpoint]) => endpoint.isStreamed === true);
    const declared = operationsOf().filter(({ content }) => content.includes('application/gzip'));
    assert.deepEqual(
      streamed.map(([operationId]) => operationId),
      declared.map(({ operationId }) => operationId),
    );
  });

  it('describes every operation on the page, fetches nothing and escapes what it shows', () => {
    const page = renderDocs(document);
    for (const { method, path } of api.operations) assert.ok(page.includes(`${method}</code> <code>/v1${path}<`), path);
    assert.ok(!/<script|src=|https?:/.test(page.replaceAll(/<pre>.*?<\/pre>/gs, '')));
    const hostile = renderDocs({ info: { title: '<script>' }, tags: [{ name: '"><b>' }], paths: {} });
    assert.ok(!hostile.includes('<script>') && !hostile.includes('<b>'));
  });
});
