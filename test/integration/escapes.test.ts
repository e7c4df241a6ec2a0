import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createProcessIsolate } from '../../runner/isolate/process.ts';
import { createStrictIsolate } from '../../runner/isolate/strict.ts';
import { createThreadIsolate } from '../../runner/isolate/thread.ts';
import type { IsolateKind } from '../../runner/isolate/isolate.ts';
import { silentLog, specOf, WorkerHarness, WorkerStarter } from '../contract/isolate-harness.ts';

const folder = join(import.meta.dirname, '..', 'fixtures', 'escapes');
// Node 24 leaves the network open, which `process` and `thread` must be allowed; these attacks are on the guest's realm.
const options = { log: silentLog, allowWeakIsolation: Number(process.versions.node.split('.')[0]) < 26 };
const KINDS: Readonly<Record<string, () => IsolateKind>> = {
  process: () => createProcessIsolate(options),
  thread: () => createThreadIsolate(options),
  strict: () => createStrictIsolate(options),
};

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

/** What an attack may note in an isolate without having got anywhere; everywhere else it is `no`. */
function harmless(kind: string, attack: string, stackTraces: boolean): RegExp {
  // isolated-vm has no switch for it; what such code can reach is the same guest's realm.
  if (kind === 'strict' && attack === '27-codegen-errors') return /^outcome: (no|AVAIL codegen from strings)$/;
  if (kind !== 'strict' && stackTraces && SEE_FOREIGN_ERRORS.has(attack)) {
    return /^outcome: (no|LEAK foreign \[object Error\])/;
  }
  return /^outcome: no$/;
}

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

for (const [kindName, create] of Object.entries(KINDS))
  describe(`escapes from the isolate ${kindName}`, () => {
    let kind: IsolateKind;
    const workers = new WorkerStarter(() => kind);
    before(() => {
      execFileSync(process.execPath, ['tools/build-inside.mjs']);
      kind = create();
    });
    afterEach(() => workers.endAll());
    after(async () => await kind.close?.());

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
      for (const stackTraces of [false, true]) {
        it(`withstands ${name}${stackTraces ? ' with stack traces on' : ''}`, async () => {
          assert.match(await outcomeOf(workers, source, stackTraces), harmless(kindName, name, stackTraces));
        });
      }
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
