import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FuncatronError } from '../../core/errors.ts';
import { createNodeRuntime } from '../../runner/runtimes/node.ts';
import { createPythonRuntime } from '../../runner/runtimes/python.ts';
import { RuntimeStarter } from '../contract/runtime-harness.ts';
import { type EmbeddedCluster, openEmbedded } from '../helpers/embedded.ts';

const OPERATIONS = ['fine', 'hangs', 'crashes', 'closesChannel', 'raises', 'returnsOdd'];

const NODE = `import { closeSync } from 'node:fs';
const worker = crypto.randomUUID();
export const fine = () => [worker];
export const hangs = () => { for (;;); };
export const crashes = () => process.abort();
export const closesChannel = () => closeSync(3);
export const raises = () => { throw new Error('secret') };
export const returnsOdd = () => 1n;
`;

const PYTHON = `import os, uuid
WORKER = str(uuid.uuid4())
def fine(context, event): return [WORKER]
def hangs(context, event):
    while True: pass
def crashes(context, event): os.abort()
def closesChannel(context, event): os.close(3)
def raises(context, event): raise ValueError('secret')
def returnsOdd(context, event): return object()
def handler(context, event): pass
`;

describe('runtimes: what a func does to its worker', () => {
  let cluster: EmbeddedCluster;
  const folder = mkdtempSync(join(tmpdir(), 'funcatron-faults-'));
  before(async function () {
    this.timeout(60_000);
    cluster = await openEmbedded();
  });
  after(async () => {
    await cluster.close();
    rmSync(folder, { recursive: true });
  });

  async function deploy(runtime: string, file: string, source: string): Promise<void> {
    const paths = OPERATIONS.map((operationId) => {
      const operation = { operationId, responses: { 200: { description: 'ok' } } };
      // A GET that was in a worker with one that hangs runs again in the next one.
      return [`/${operationId}`, operationId === 'fine' ? { get: operation } : { post: operation }];
    });
    const settings = { name: `faulty-${runtime}`, runtime, timeoutMs: 500, workers: { max: 1 } };
    const document = {
      openapi: '3.1.0',
      info: { title: 'Faulty', version: '1' },
      servers: [{ url: `/${runtime}` }],
      'x-funcatron': settings,
      paths: Object.fromEntries(paths),
    };
    writeFileSync(join(folder, 'funcatron.json'), JSON.stringify(document));
    writeFileSync(join(folder, file), source);
    await cluster.deploy(folder);
  }

  async function call(runtime: string, operation: string): Promise<[number, unknown]> {
    const method = operation === 'fine' ? 'GET' : 'POST';
    const response = await fetch(`${cluster.httpUrl}/${runtime}/${operation}`, { method });
    const body: unknown = await response.json();
    return [response.status, response.ok ? body : (body as { code: string }).code];
  }

  for (const [runtime, file, source] of [
    ['node', 'index.ts', NODE],
    ['python', 'main.py', PYTHON],
  ] as const) {
    describe(runtime, () => {
      before(async function () {
        this.timeout(30_000);
        await deploy(runtime, file, source);
      });

      for (const [operation, outcome, isReplaced] of [
        ['hangs', [504, 'TIMEOUT'], true],
        ['crashes', [502, 'FUNC_CRASHED'], true],
        ['closesChannel', [502, 'FUNC_CRASHED'], true],
        ['raises', [500, 'FUNC_ERROR'], false],
        ['returnsOdd', [502, 'INVALID_RESPONSE'], false],
      ] as const) {
        it(`answers ${outcome.join(' ')} when it ${operation}, and the next call ${isReplaced ? 'in a new worker' : 'in the same'}`, async () => {
          const [, before] = await call(runtime, 'fine');
          assert.deepEqual(await call(runtime, operation), outcome);
          // A worker that hangs is killed after the grace; until then calls wait for a slot no longer than they may take.
          let [status, after] = await call(runtime, 'fine');
          while (status === 504) [status, after] = await call(runtime, 'fine');
          assert.equal(status, 200);
          assert.equal(String(after) !== String(before), isReplaced, `${String(before)} then ${String(after)}`);
        });
      }
    });
  }
});

describe('runtimes: what the author of a bundle that does not start is told', () => {
  const node = new RuntimeStarter(createNodeRuntime);
  const python = new RuntimeStarter(createPythonRuntime);
  afterEach(() => Promise.all([node.endAll(), python.endAll()]));

  for (const [runtime, workers, file, source, message, hint] of [
    [
      'node',
      node,
      'index.ts',
      'import "nowhere";',
      /Cannot find package 'nowhere' imported from index\.ts/,
      /npm install/,
    ],
    ['node', node, 'index.ts', `(await import('fs')).readdirSync('/');`, /restricted/, /x-funcatron\.permissions/],
    ['node', node, 'index.ts', 'process.exit(3)', /it exited with code 3/, undefined],
    [
      'python',
      python,
      'main.py',
      'import nowhere',
      /No module named 'nowhere' \(main\.py:1:1\)/,
      /pip install --target/,
    ],
    ['python', python, 'main.py', 'x = 1', /module main has no function handler/, /x-funcatron\.handler/],
    ['python', python, 'main.py', 'def handler(\n', /SyntaxError: .*\(main\.py:1:12\)/, undefined],
    ['python', python, 'main.py', 'import os; os._exit(3)', /it exited with code 3/, undefined],
  ] as const) {
    it(`${runtime}: of ${source.trim()}`, async () => {
      const started = workers.start(
        { [file]: source },
        { entry: runtime === 'node' ? file : 'main:handler', concurrency: 1 },
      );
      await assert.rejects(started, (error) => {
        assert.ok(error instanceof FuncatronError);
        assert.equal(error.code, 'DEPLOY_FAILED');
        assert.match(error.message, message);
        if (hint !== undefined) assert.match(error.data.hint ?? '', hint);
        return true;
      });
    });
  }
});
