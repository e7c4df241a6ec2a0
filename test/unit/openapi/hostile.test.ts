import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { compilePattern, patternProblem } from '../../../core/openapi/pattern.ts';
import { loadApi } from '../../../core/openapi/load.ts';
import { oneOperation, post, refused } from './one-operation.ts';

/** Far above what linear work takes on a busy machine, far below what the attacks would. */
const KILL_MS = 60_000;

/** Runs one kind of attack in a thread that can be killed; answers how many texts were tried. */
async function attack(name: 'patterns' | 'formats' | 'schemas'): Promise<unknown> {
  const worker = new Worker(new URL('./hostile-worker.ts', import.meta.url));
  try {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(name);
    const [tried] = (await once(worker, 'message', { signal: AbortSignal.timeout(KILL_MS) })) as [unknown];
    return tried;
  } finally {
    await worker.terminate();
  }
}

describe('core/openapi against hostile documents and requests', () => {
  it("survives patterns that hang V8's engine", async () => {
    assert.equal(await attack('patterns'), 42);
  }).timeout(KILL_MS + 5_000);

  it('survives long hostile texts in every format', async () => {
    assert.ok(Number(await attack('formats')) > 10_000);
  }).timeout(KILL_MS + 5_000);

  it('survives schemas that double at each step, and lists without equals', async () => {
    assert.equal(await attack('schemas'), 3);
  }).timeout(KILL_MS + 5_000);

  it('refuses a body whose check would take too many steps', async () => {
    const child = { type: 'object', properties: { child: { $ref: '#/components/schemas/Tree' } } };
    const tree = {
      anyOf: [
        { ...child, required: ['x'] },
        { ...child, required: ['y'] },
      ],
    };
    const content = { 'application/json': { schema: { $ref: '#/components/schemas/Tree' } } };
    const operation = await oneOperation({ requestBody: { content } }, { schemas: { Tree: tree } });
    const body = `${'{"child":'.repeat(60)}{}${'}'.repeat(60)}`;
    assert.deepEqual(refused(operation.read(post('application/json', body))), [
      '/body is nested too deeply to be checked',
    ]);
    assert.equal(operation.read(post('application/json', '{"x":1,"child":{"y":1}}')).ok, true);
  });

  it('matches what JavaScript matches', () => {
    const patterns: readonly (readonly [string, readonly string[], readonly string[]])[] = [
      ['^[a-z]+$', ['abc'], ['abc\n', 'ABC', '']],
      [String.raw`^\d{3}-\d{4}$`, ['555-1234'], ['5551234', '٣٣٣-٤٤٤٤']],
      [String.raw`\u0041`, ['xAx'], ['a']],
      [String.raw`^\p{Lu}\w*$`, ['Ärger'.slice(0, 1), 'Abc'], ['abc']],
      ['^(?<year>[0-9]{4})$', ['2026'], ['26']],
      ['^.$', ['😀', 'a'], ['ab']],
      [String.raw`^[\w.-]+\/[^/]+$`, ['a.b/c'], ['a/b/c']],
    ];
    for (const [pattern, matching, others] of patterns) {
      const ours = compilePattern(pattern);
      const native = new RegExp(pattern, 'u');
      for (const text of [...matching, ...others]) {
        assert.equal(ours.test(text), matching.includes(text), `${pattern} on ${text}`);
        assert.equal(native.test(text), matching.includes(text), `${pattern} on ${text}`);
      }
    }
  });

  it('refuses patterns RE2 cannot express', () => {
    for (const pattern of [
      '^(?=a)',
      '^(?!a)',
      '(?<=a)b',
      '(?<!a)b',
      String.raw`(a)\1`,
      'a{1,2000}',
      '((a{1,100}){1,100}){1,100}',
      '(',
      '[',
    ]) {
      assert.notEqual(patternProblem(pattern), undefined, pattern);
    }
  });

  it('refuses YAML that grows without bound before anything else looks at it', async () => {
    const lines = ['a0: &a0 [1,1,1,1,1,1,1,1,1,1]'];
    for (let level = 1; level < 20; level++) lines.push(`a${level}: &a${level} [${`*a${level - 1},`.repeat(10)}]`);
    await assert.rejects(loadApi(lines.join('\n'), { file: 'f.yaml' }), { code: 'INVALID_BUNDLE' });
  });
});
