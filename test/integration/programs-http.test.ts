import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EmbeddedCluster, openEmbedded } from '../helpers/embedded.ts';

const PATHS = ['echo', 'rubbish', 'exits', 'closes', 'hangs', 'fails'];

function documentOf(runtime: string, entry: string): string {
  const operations = PATHS.map((path) => {
    const body = `requestBody: { content: { '*/*': {} } }, responses: { default: { description: any } }`;
    return `  /${path}: { post: { operationId: ${path}, ${body} } }`;
  });
  return `openapi: 3.1.0
info: { title: ${runtime}, version: '1' }
x-funcatron: { runtime: ${runtime}, entry: ${entry}, timeoutMs: 1000, workers: { max: 1 } }
paths:
${operations.join('\n')}
`;
}

describe('programs behind HTTP', () => {
  let cluster: EmbeddedCluster;
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-programs-http-'));
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
    cpSync('test/fixtures/programs', folder, { recursive: true });
    writeFileSync(join(folder, 'funcatron.yaml'), documentOf('http', './serve.pl'));
    await cluster.deploy(folder);
  });
  after(async () => {
    await cluster.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function post(path: string, body = 'x'): Promise<{ status: number; text: string }> {
    const headers = { 'content-type': 'application/octet-stream' };
    const response = await fetch(`${cluster.httpUrl}/${path}`, { method: 'POST', headers, body });
    return { status: response.status, text: await response.text() };
  }

  const WORDS: Readonly<Record<string, string>> = { rubbish: 'writes rubbish', closes: 'closes its stdout' };
  const misdeeds: readonly (readonly [string, number, string])[] = [
    ['rubbish', 502, 'INVALID_RESPONSE'],
    ['exits', 502, 'FUNC_CRASHED'],
    ['closes', 502, 'FUNC_CRASHED'],
    ['hangs', 504, 'TIMEOUT'],
  ];
  for (const [path, status, code] of misdeeds) {
    it(`answers ${status} ${code} to a program that ${WORDS[path] ?? path}, and the next call finds a new one`, async function () {
      this.timeout(20_000);
      const answer = await post(path);
      assert.equal(answer.status, status);
      assert.equal((JSON.parse(answer.text) as { code: string }).code, code);
      assert.deepEqual(await post('echo', 'again'), { status: 200, text: 'again' });
    });
  }
});
