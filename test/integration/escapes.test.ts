import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { openProcessIsolate, specOf, WorkerHarness, WorkerStarter } from '../contract/isolate-harness.ts';

const folder = join(import.meta.dirname, '..', 'fixtures', 'escapes');
const attacks = createRequire(import.meta.url)(join(folder, 'attacks.cjs')) as readonly (readonly [string, string])[];
const prelude = readFileSync(join(folder, 'prelude.js'), 'utf8');

/**
 * With stack traces on, an overflow inside Node's own formatter of stacks gives the guest a RangeError of the host's
 * realm: visible, frozen, and without a way to `process`, because no string becomes code in that process. These attacks
 * provoke it; with stack traces off they find nothing.
 */
const SEE_FOREIGN_ERRORS: ReadonlySet<string> = new Set([
  '10-overflow-in-console',
  '10b-overflow-in-stack',
  '46-overflow-over-every-api',
]);

/** Runs an attack in a worker of its own and returns what it noted. */
async function outcomeOf(workers: WorkerStarter, source: string, stackTraces: boolean): Promise<string> {
  const harness = await workers.start(`${prelude}\n${source}`, { stackTraces, services: { kv: { type: 'kv' } } });
  harness.perform = () => Promise.resolve({ result: {} });
  const attack = harness.call({ deadlineMs: 300, body: '{"a":1}', meta: { method: 'POST' } }).then(() => 'answered');
  const deadline = harness.call({ deadlineMs: 10_000, meta: { method: 'TELL' } });
  // A call that never settles has had its deadline before the second question.
  await Promise.race([attack, deadline]);
  await harness.worker.ping();
  const reply = await harness.call({ deadlineMs: 10_000, meta: { method: 'TELL' } });
  return reply.body.toString();
}

describe('escapes from the process isolate', () => {
  let kind: IsolateKind;
  const workers = new WorkerStarter(() => kind);
  before(() => {
    kind = openProcessIsolate();
  });
  afterEach(() => workers.endAll());

  it('has a probe that would notice', async () => {
    const seeing = await outcomeOf(workers, `go(() => probe({ versions: { node: '1' }, pid: 1 }, 'planted'))`, true);
    assert.equal(seeing, 'outcome: PWNED process undefined');
    const foreign = await outcomeOf(
      workers,
      `go(() => probe(Object.create(Object.create(null, {})), 'planted'))`,
      true,
    );
    assert.match(foreign, /^outcome: LEAK foreign/);
  });

  for (const [name, source] of attacks.filter(([, text]) => !text.includes('import('))) {
    it(`withstands ${name}`, async () => {
      const outcome = await outcomeOf(workers, source, false);
      assert.equal(outcome, 'outcome: no');
    });
    it(`withstands ${name} with stack traces on`, async () => {
      const outcome = await outcomeOf(workers, source, true);
      assert.ok(!outcome.includes('PWNED'), outcome);
      if (SEE_FOREIGN_ERRORS.has(name)) assert.match(outcome, /^outcome: (no|LEAK foreign \[object Error\])/);
      else assert.equal(outcome, 'outcome: no');
    });
  }

  for (const [name, source] of [
    ...attacks.filter(([, text]) => text.includes('import(')),
    [
      '06-import-rejection',
      'exports.run = () => import("x").catch((error) => error.constructor.constructor("return process")())',
    ],
    ['35-wrapper-breakout', '}); globalThis.escaped = 1; (function(){ exports.run = () => 1'],
    ['35b-closing-brace', 'exports.run = () => 1 } globalThis.escaped = 1; {'],
  ] as const) {
    it(`refuses to load ${name}`, async () => {
      await assert.rejects(kind.start(specOf(source), new WorkerHarness().events), { code: 'DEPLOY_FAILED' });
    });
  }
});
