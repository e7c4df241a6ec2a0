import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';
import { until } from '../helpers/until.ts';

/** Bundles that call one another, in a whole cluster. */

const CALLER = `
  export const relay = async (event, context) => {
    const { bundle, operationId, ...input } = event.body;
    try {
      return await context.invoke(bundle, operationId, input);
    } catch (error) {
      return { code: error.code, message: error.message };
    }
  };
  export const spin = async (event, context) => {
    try {
      return (await context.invoke('caller', 'spin', { body: { depth: event.body.depth + 1 } })).body;
    } catch (error) {
      return { code: error.code, depth: event.body.depth };
    }
  };
  export const crowd = async (event, context) => {
    try {
      return (await context.invoke('narrow', 'again')).body;
    } catch (error) {
      return { code: error.code };
    }
  };
  export const hang = (event, context) => context.invoke('callee', 'wait');
  let late;
  export const outlive = (event, context) => {
    late ??= new Promise((resolve) => {
      setTimeout(() => context.invoke('callee', 'show', { params: { id: 1 } }).catch((error) => resolve({ code: error.code })), 20);
    });
    return { begun: true };
  };
  export const outlived = () => late;
`;
const CALLEE = `
  export const show = (event, context) => ({
    trigger: event.trigger, id: event.params.id, tag: event.query.tag, header: event.headers['x-a'],
    traceparent: event.headers.traceparent, body: event.body, remainingMs: context.remainingMs(),
  });
  export const bytes = (event) => event.bytes();
  export const throws = () => { throw new Error('secret') };
  export const wait = (event, { signal, state }) => new Promise((resolve) => {
    state.waiting = true;
    signal.addEventListener('abort', () => { state.ended = signal.reason.name; resolve(); });
  });
  export const waited = (event, { state }) => state;
  export const slow = () => new Promise((resolve) => setTimeout(resolve, 300));
`;
const NARROW = `
  export const again = async (event, context) => {
    try {
      return (await context.invoke('narrow', 'again')).body;
    } catch (error) {
      return { code: error.code };
    }
  };
  const seen = [];
  export const pair = (event, context) => Promise.all([1, 2].map((n) => context.invoke('narrow', 'hang', { body: n })));
  export const hang = (event, { signal }) => new Promise((resolve) => {
    seen.push(event.body);
    signal.addEventListener('abort', () => { seen.push(signal.reason.name); resolve(); });
  });
  export const watch = () => seen;
`;

function documentOf(name: string, paths: object, settings: object = {}): string {
  const info = { title: name, version: '1.0.0' };
  const servers = [{ url: `/${name}` }];
  return JSON.stringify({
    openapi: '3.1.0',
    info,
    servers,
    'x-funcatron': { name, entry: 'index.js', ...settings },
    paths,
  });
}

function operation(operationId: string, more: object = {}): object {
  return { operationId, responses: { 200: { description: 'fine' } }, ...more };
}

const ANY_BODY = { requestBody: { content: { 'application/json': {}, '*/*': {} } } };
const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

describe('context.invoke', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-invoke-'));
  let cluster: EmbeddedCluster | undefined;

  async function deploy(name: string, code: string, document: string): Promise<void> {
    const at = join(folder, name);
    mkdirSync(at);
    writeFileSync(join(at, 'index.js'), code);
    writeFileSync(join(at, 'funcatron.json'), document);
    await cluster?.deploy(at);
  }

  async function post(path: string, body: unknown): Promise<Record<string, unknown>> {
    const headers = { 'content-type': 'application/json', traceparent: TRACEPARENT };
    const response = await fetch(`${cluster?.httpUrl}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    assert.equal(response.status, 200);
    return (await response.json()) as Record<string, unknown>;
  }

  const relay = (operationId: string, input: object = {}) =>
    post('/caller/relay', { bundle: 'callee', operationId, ...input });

  before(async () => {
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    cluster = await openEmbedded();
    await deploy(
      'caller',
      CALLER,
      documentOf(
        'caller',
        {
          '/relay': { post: operation('relay', { ...ANY_BODY, 'x-funcatron': { timeoutMs: 2_000 } }) },
          '/spin': { post: operation('spin', ANY_BODY) },
          '/crowd': { post: operation('crowd', { ...ANY_BODY, 'x-funcatron': { timeoutMs: 3_000 } }) },
          '/hang': { post: operation('hang', ANY_BODY) },
          '/outlive': { post: operation('outlive', ANY_BODY) },
          '/outlived': { post: operation('outlived', ANY_BODY) },
        },
        { concurrency: 400 },
      ),
    );
    const id = { name: 'id', in: 'path', required: true, schema: { type: 'integer' } };
    const tag = { name: 'tag', in: 'query', schema: { type: 'array', items: { type: 'string' } } };
    await deploy(
      'callee',
      CALLEE,
      documentOf('callee', {
        '/show/{id}': { post: operation('show', { ...ANY_BODY, parameters: [id, tag] }) },
        '/bytes': { post: operation('bytes', ANY_BODY) },
        '/wait': { get: operation('wait') },
        '/waited': { get: operation('waited') },
        '/throws': { get: operation('throws') },
        '/slow': { get: operation('slow', { 'x-funcatron': { timeoutMs: 100 } }) },
      }),
    );
    await deploy(
      'narrow',
      NARROW,
      documentOf(
        'narrow',
        {
          '/again': { get: operation('again', { 'x-funcatron': { timeoutMs: 1_000, http: false } }) },
          '/pair': { post: operation('pair', { 'x-funcatron': { timeoutMs: 500 } }) },
          '/hang': { post: operation('hang', ANY_BODY) },
          '/watch': { get: operation('watch') },
        },
        { concurrency: 1, workers: { min: 1, max: 1 } },
      ),
    );
  });
  after(async () => {
    await cluster?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('carries parameters, headers, body, trace and what is left of the deadline', async () => {
    const input = { params: { id: 7 }, query: { tag: ['a', 'b'] }, headers: { 'X-A': 'yes' }, body: { n: 1 } };
    const { status, headers, body } = await relay('show', input);
    const { remainingMs, ...rest } = body as Record<string, unknown>;
    assert.equal(status, 200);
    assert.equal((headers as Record<string, unknown>)['content-type'], 'application/json');
    assert.deepEqual(rest, {
      trigger: 'invoke',
      id: 7,
      tag: ['a', 'b'],
      header: 'yes',
      traceparent: TRACEPARENT,
      body: { n: 1 },
    });
    assert.ok(Number(remainingMs) <= 2_000, `${String(remainingMs)} ms are more than the caller has`);
  });

  it('answers INVALID_REQUEST with the first problem when the input does not match the document', async () => {
    const { code, message } = await relay('show', { params: { id: 'seven' } });
    assert.equal(code, 'INVALID_REQUEST');
    assert.match(String(message), /callee\.show: .*\/path\/id/);
  });

  it('answers with the code of a func that failed, and not with its words', async () => {
    const { code, message } = await relay('throws');
    assert.equal(code, 'FUNC_ERROR');
    assert.doesNotMatch(String(message), /secret/);
  });

  it('answers TIMEOUT at the deadline of the called operation', async () => {
    assert.equal((await relay('slow'))['code'], 'TIMEOUT');
  });

  it('answers NOT_FOUND when the bundle or the operation is not there', async () => {
    assert.equal((await relay('none'))['code'], 'NOT_FOUND');
    assert.equal((await post('/caller/relay', { bundle: 'nobody', operationId: 'x' }))['code'], 'NOT_FOUND');
  });

  it('answers LOOP_DETECTED when funcs call one another more than 10 deep', async () => {
    assert.deepEqual(await post('/caller/spin', { depth: 0 }), { code: 'LOOP_DETECTED', depth: 10 });
  });

  it('goes past the queue when the callers hold every slot of the func they call', async () => {
    assert.deepEqual(await post('/caller/crowd', {}), { code: 'LOOP_DETECTED' });
  });

  it('ends the called func when nobody waits for the caller any more', async () => {
    const client = new AbortController();
    const hung = fetch(`${cluster?.httpUrl}/caller/hang`, { method: 'POST', signal: client.signal });
    const state = async () => (await relay('waited'))['body'] as { waiting?: boolean; ended?: string };
    await until('the called func runs', async () => (await state()).waiting === true);
    client.abort();
    await assert.rejects(hung);
    await until('it was aborted', async () => (await state()).ended === 'AbortError');
  });

  it('ends the one that runs in the slot of its caller, and never starts the one that waits for it', async () => {
    const pair = await fetch(`${cluster?.httpUrl}/narrow/pair`, { method: 'POST' });
    assert.equal(pair.status, 504);
    const seen = await fetch(`${cluster?.httpUrl}/narrow/watch`);
    assert.deepEqual(await seen.json(), [1, 'TimeoutError']);
  });

  it('refuses a call that has ended', async () => {
    await post('/caller/outlive', {});
    assert.deepEqual(await post('/caller/outlived', {}), { code: 'INVALID_REQUEST' });
  });
});
