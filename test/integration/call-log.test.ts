import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEmbedded, type EmbeddedCluster } from '../helpers/embedded.ts';

/** Lines of one call, in the answer to who holds the token. */

const CODE = `
  import { reply } from 'funcatron';
  export const greet = async (event, { log }) => {
    console.debug('before');
    log.debug('seen', { headers: Object.keys(event.headers).sort() });
    await null;
    log.warn('careful');
    return reply(201, { hello: 'you' }, { 'x-own': 'a' });
  };
  export const fail = (event, { log }) => { log.info('about to'); throw new Error('secret'); };
  export const nothing = () => undefined;
  export const bytes = () => new Uint8Array([0, 255]);
  export const flood = (event, { log }) => {
    for (let i = 0; i < 100; i++) log.info('x'.repeat(8000));
    return 'done';
  };
`;

const NAMES = ['greet', 'fail', 'nothing', 'bytes', 'flood'];

interface LoggedAnswer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body?: unknown;
  readonly bodyBase64?: string;
  readonly log: readonly { level: string; message: string; fields?: Record<string, unknown>; dropped?: number }[];
}

describe('X-Funcatron-Log', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-call-log-'));
  let cluster: EmbeddedCluster | undefined;

  before(async () => {
    execFileSync(process.execPath, ['tools/build-inside.mjs']);
    cluster = await openEmbedded();
    const operation = (operationId: string) => ({
      get: { operationId, responses: { default: { description: 'any' } } },
    });
    writeFileSync(join(folder, 'index.js'), CODE);
    writeFileSync(
      join(folder, 'funcatron.json'),
      JSON.stringify({
        openapi: '3.1.0',
        info: { title: 'logged', version: '1' },
        servers: [{ url: '/logged' }],
        'x-funcatron': { entry: 'index.js', logLevel: 'warn' },
        paths: Object.fromEntries(NAMES.map((name) => [`/${name}`, operation(name)])),
      }),
    );
    await cluster.deploy(folder);
  });
  after(async () => {
    await cluster?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function get(name: string, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${cluster?.httpUrl}/logged/${name}`, { headers });
  }

  async function getLogged(name: string, headers: Record<string, string> = {}) {
    const asked = { authorization: cluster?.authorization ?? '', 'x-funcatron-log': 'body', ...headers };
    const response = await get(name, asked);
    assert.equal(response.headers.get('content-type'), 'application/vnd.funcatron.call+json');
    return { response, answer: (await response.json()) as LoggedAnswer };
  }

  const messagesOf = ({ log }: LoggedAnswer) => log.map(({ level, message }) => `${level} ${message}`);

  it('gives the answer and the lines of its call as JSON, from the level asked for', async () => {
    const { response, answer } = await getLogged('greet', { 'x-funcatron-log-level': 'debug' });
    assert.equal(response.status, 201);
    assert.equal(response.headers.get('x-own'), null);
    assert.deepEqual([answer.status, answer.body], [201, { hello: 'you' }]);
    assert.deepEqual(answer.headers, { 'x-own': 'a', 'content-type': 'application/json' });
    assert.deepEqual(messagesOf(answer), ['debug before', 'debug seen', 'warn careful']);
  });

  it('shows the func neither the token nor what was asked', async () => {
    const { answer } = await getLogged('greet', { 'x-funcatron-log-level': 'debug', 'x-a': 'b' });
    const names = answer.log[1]?.fields?.['headers'] as string[];
    assert.ok(names.includes('x-a'));
    assert.deepEqual(
      names.filter((name) => name === 'authorization' || name.startsWith('x-funcatron')),
      [],
    );
  });

  it('keeps to the level of the bundle where none is asked for', async () => {
    assert.deepEqual(messagesOf((await getLogged('greet')).answer), ['warn careful']);
  });

  it('gives the lines of a call that failed, with its own error among them', async () => {
    const { response, answer } = await getLogged('fail', { 'x-funcatron-log-level': 'info' });
    assert.deepEqual([response.status, answer.status], [500, 500]);
    const problem = answer.body as Record<string, unknown>;
    assert.deepEqual([problem['code'], problem['log']], ['FUNC_ERROR', undefined]);
    assert.deepEqual(messagesOf(answer), ['info about to', 'error func fail threw: Error: secret']);
  });

  it('answers 200 in place of 204, says bytes as base64, and what never reached a func without lines', async () => {
    const empty = await getLogged('nothing');
    assert.deepEqual([empty.response.status, empty.answer], [200, { status: 204, headers: {}, log: [] }]);
    assert.equal((await getLogged('bytes')).answer.bodyBase64, 'AP8=');
    const missing = await getLogged('missing');
    assert.deepEqual([missing.response.status, missing.answer.log], [404, []]);
  });

  it('carries far more than headers could, and counts what is more than 512 KiB', async () => {
    const { answer } = await getLogged('flood', { 'x-funcatron-log-level': 'info' });
    assert.equal(answer.body, 'done');
    assert.ok(answer.log.length > 60 && answer.log.length < 70, `${answer.log.length} lines`);
    const dropped = answer.log.at(-1)?.dropped ?? 0;
    assert.equal(dropped + answer.log.length - 1, 100);
  });

  it('is ignored without the token, whose headers the func keeps', async () => {
    const headers = { 'x-funcatron-log': 'body', 'x-funcatron-log-level': 'debug' };
    for (const authorization of ['', 'Bearer wrong']) {
      const response = await get('greet', authorization === '' ? headers : { ...headers, authorization });
      assert.equal(response.status, 201);
      assert.deepEqual(await response.json(), { hello: 'you' });
    }
  });
});
