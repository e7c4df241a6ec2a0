import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FuncatronError } from '../../../core/errors.ts';
import type { RunnerReport } from '../../../core/wire/control.ts';
import { DesiredState } from '../../../tron/desired.ts';
import {
  failChange,
  finishChange,
  flipChange,
  isWanted,
  retireRevision,
  startChange,
  type BundleEntry,
  type Change,
  surplusRevisions,
} from '../../../tron/bundle-entry.ts';
import {
  addRevision,
  dropBundle,
  EMPTY_REGISTRY,
  findBundle,
  parseRegistry,
  putBundle,
  requireBundle,
  type RegistryState,
} from '../../../tron/registry.ts';
import { testBundle } from '../../helpers/live-bundle.ts';

const [A, B, C] = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc'] as const;

function registryOf(...revisions: readonly string[]): RegistryState {
  return revisions.reduce(
    (state, revision) => addRevision(state, testBundle({ revision, operations: [] }).record),
    EMPTY_REGISTRY,
  );
}

function begin(bundle: BundleEntry, target: Record<string, number>, kind: Change['kind'] = 'deploy'): BundleEntry {
  return startChange(bundle, { command: 'c', kind, target, startedAt: 1, purge: false });
}

function changeOf(bundle: BundleEntry): Change {
  assert.ok(bundle.change);
  return bundle.change;
}

/** A change that goes well, to its end. */
function live(bundle: BundleEntry, target: Record<string, number>, kind: Change['kind'] = 'deploy'): BundleEntry {
  const begun = begin(bundle, target, kind);
  const flipped = flipChange(begun, changeOf(begun), 2);
  return finishChange(flipped, changeOf(flipped), 3);
}

const failure = new FuncatronError('DEPLOY_FAILED', 'init threw');

describe('tron/registry', () => {
  it('refuses a second change of a bundle with DEPLOY_IN_PROGRESS', () => {
    const bundle = begin(requireBundle(registryOf(A, B), 'orders'), { [A]: 100 });
    assert.throws(() => begin(bundle, { [B]: 100 }), { code: 'DEPLOY_IN_PROGRESS' });
  });

  it('refuses another digest with the same short name with DIGEST_MISMATCH', () => {
    const { record } = testBundle({ revision: A, operations: [] });
    const twin = { ...record, digest: A.padEnd(64, 'f') };
    assert.throws(() => addRevision(registryOf(A), twin), { code: 'DIGEST_MISMATCH' });
    assert.equal(addRevision(registryOf(A), record).bundles[0]?.revisions.length, 1);
  });

  it('keeps what was live when a change fails while loading', () => {
    const before = live(requireBundle(registryOf(A, B), 'orders'), { [A]: 100 });
    const begun = begin(before, { [B]: 100 });
    const after = failChange(begun, changeOf(begun), 4, failure);
    assert.deepEqual(after.live, { [A]: 100 });
    assert.deepEqual(after.draining, {});
    assert.equal(after.change, undefined);
    assert.equal(after.lastChange?.error?.message, 'init threw');
  });

  it('puts back what was live when a change fails after the flip, and drains the target', () => {
    const before = live(requireBundle(registryOf(A, B), 'orders'), { [A]: 100 });
    const begun = begin(before, { [B]: 100 });
    const flipped = flipChange(begun, changeOf(begun), 2);
    assert.deepEqual(flipped.draining, { [A]: 2 });
    const after = failChange(flipped, changeOf(flipped), 4, failure);
    assert.deepEqual(after.live, { [A]: 100 });
    assert.deepEqual(after.draining, { [B]: 4 });
  });

  it('goes back one step further with every rollback', () => {
    let bundle = requireBundle(registryOf(A, B, C), 'orders');
    for (const revision of [A, B, C]) bundle = live(bundle, { [revision]: 100 });
    assert.deepEqual(bundle.history, [{ [A]: 100 }, { [B]: 100 }]);
    bundle = live(bundle, bundle.history.at(-1) ?? {}, 'rollback');
    assert.deepEqual(bundle.live, { [B]: 100 });
    bundle = live(bundle, bundle.history.at(-1) ?? {}, 'rollback');
    assert.deepEqual(bundle.live, { [A]: 100 });
    assert.deepEqual(bundle.history, []);
  });

  it('remembers a bounded history', () => {
    let bundle = requireBundle(registryOf(A, B), 'orders');
    for (let n = 1; n < 100; n++) bundle = live(bundle, { [A]: n, [B]: 1 });
    assert.equal(bundle.history.length, 20);
  });

  it('counts as surplus only old revisions that nobody can go back to', () => {
    const revisions = Array.from({ length: 60 }, (_, n) => String(n).padStart(12, '0'));
    let bundle = requireBundle(registryOf(...revisions), 'orders');
    assert.deepEqual(surplusRevisions({ ...bundle, revisions: bundle.revisions.slice(0, 20) }), []);
    for (const revision of revisions) bundle = live(bundle, { [revision]: 100 });
    bundle = { ...bundle, draining: { [revisions[5] ?? '']: 1 } };
    const surplus = surplusRevisions(bundle).map(({ revision }) => revision);
    // Of 60: one is live, 20 are in the history, one drains, 20 are spare.
    assert.deepEqual(surplus, [...revisions.slice(0, 5), ...revisions.slice(6, 19)]);
  });

  it('says the version when a registry of another one is in the store', () => {
    assert.throws(() => parseRegistry('{"v":2}'), /version 2, not 1/);
    assert.equal(parseRegistry(undefined), EMPTY_REGISTRY);
  });

  it('finds bundles that are called like a member of every object', () => {
    assert.equal(findBundle(registryOf(A), 'constructor'), undefined);
    assert.throws(() => requireBundle(registryOf(A), 'toString'), { code: 'NOT_FOUND' });
  });

  it('holds its invariants after any sequence of changes', () => {
    const target = fc.dictionary(fc.constantFrom(A, B, C), fc.integer({ min: 1, max: 100 }), { minKeys: 1 });
    const step = fc.record({
      target,
      end: fc.constantFrom('finish', 'fail loading', 'fail flipped'),
      retires: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        let bundle = requireBundle(registryOf(A, B, C), 'orders');
        for (const { target, end, retires } of steps) {
          const before = bundle.live;
          bundle = begin(bundle, target);
          if (end !== 'fail loading') bundle = flipChange(bundle, changeOf(bundle), 2);
          bundle =
            end === 'finish'
              ? finishChange(bundle, changeOf(bundle), 3)
              : failChange(bundle, changeOf(bundle), 3, failure);
          assert.deepEqual(bundle.live, end === 'finish' ? target : before);
          // Nothing that serves drains, and nothing that served before has been forgotten.
          for (const revision of Object.keys(bundle.draining)) assert.ok(!isWanted(bundle, revision));
          for (const revision of Object.keys(before)) {
            assert.ok(revision in bundle.live || revision in bundle.draining, revision);
          }
          if (retires) for (const revision of Object.keys(bundle.draining)) bundle = retireRevision(bundle, revision);
        }
      }),
    );
  });
});

describe('tron/desired', () => {
  const desiredOf = (registry: RegistryState, reports: readonly RunnerReport[]) =>
    new DesiredState().of(registry, reports).bundles;

  const runner = (id: string, state: 'ready' | 'loading', ...revisions: string[]) => ({
    v: 1 as const,
    role: 'runner' as const,
    id,
    version: '0',
    hostname: 'h',
    pid: 1,
    startedAt: 0,
    sentAt: 0,
    epoch: '1.1' as const,
    stopping: false,
    revisions: revisions.map((revision) => ({ bundle: 'orders', revision, state, workers: 1, inFlight: 0 })),
  });

  it('shows live, coming and draining revisions with their phases, and leaves the others out', () => {
    const bundle = begin(
      { ...live(requireBundle(registryOf(A, B, C), 'orders'), { [A]: 100 }), draining: { [B]: 1 } },
      { [C]: 1 },
    );
    const state = putBundle(registryOf(A, B, C), bundle);
    const [desired] = desiredOf(state, [runner('r2', 'loading', C), runner('r1', 'ready', A, C)]);
    assert.deepEqual(desired?.weights, { [A]: 100 });
    assert.deepEqual(
      desired.revisions.map(({ revision, phase, ready, runners }) => [revision, phase, ready, runners]),
      [
        [A, 'serving', 1, ['r1', 'r2']],
        [B, 'draining', 0, ['r1', 'r2']],
        // Its runners count once calls can come.
        [C, 'loading', 0, ['r1', 'r2']],
      ],
    );
    assert.deepEqual(desiredOf(registryOf(A), [runner('r1', 'ready', A)]), []);
  });

  it('says when a revision is tried again once every runner that should hold it has failed', () => {
    const bundle = live(requireBundle(registryOf(A), 'orders'), { [A]: 100 });
    const failed = (id: string, retryAt: number) => {
      const report = runner(id, 'ready', A);
      return { ...report, revisions: report.revisions.map((held) => ({ ...held, state: 'failed' as const, retryAt })) };
    };
    const retryAtOf = (...reports: RunnerReport[]) =>
      desiredOf(putBundle(registryOf(A), bundle), reports)[0]?.revisions[0]?.retryAt;
    assert.equal(retryAtOf(failed('r1', 7_000), failed('r2', 5_000)), 5_000);
    assert.equal(retryAtOf(failed('r1', 7_000), runner('r2', 'ready', A)), undefined);
    assert.equal(retryAtOf(failed('r1', 7_000), runner('r2', 'loading', A)), undefined);
    assert.equal(retryAtOf(failed('r1', 7_000), runner('r2', 'ready')), undefined);
    assert.equal(retryAtOf(), undefined);
  });

  it('takes host and base path from the newest live revision, while another one comes up', () => {
    const withHome = (revision: string, basePath: string): RegistryState['bundles'][number]['revisions'][number] => ({
      revision,
      digest: revision,
      createdAt: 0,
      version: '1',
      host: 'a.example',
      basePath,
      batchMax: 25,
    });
    const bundle = begin(
      {
        name: 'orders',
        revisions: [withHome(A, '/old'), withHome(B, '/new')],
        live: { [A]: 1 },
        history: [],
        draining: {},
      },
      { [B]: 1 },
    );
    const [before] = desiredOf(putBundle(EMPTY_REGISTRY, bundle), []);
    assert.equal(before?.basePath, '/old');
    assert.equal(before.host, 'a.example');
    const [after] = desiredOf(putBundle(EMPTY_REGISTRY, flipChange(bundle, changeOf(bundle), 1)), []);
    assert.equal(after?.basePath, '/new');
  });

  it('makes nothing anew while nothing is different, and only what is when something is', () => {
    const desired = new DesiredState();
    const orders = live(requireBundle(registryOf(A, B), 'orders'), { [A]: 100 });
    const state = putBundle(putBundle(EMPTY_REGISTRY, orders), { ...orders, name: 'shop' });
    const first = desired.of(state, [runner('r1', 'loading', A)]);
    assert.equal(desired.of(state, [runner('r1', 'loading', A)]), first);
    // What the registry remembers beside is nothing a runner or a frontend acts on.
    assert.equal(
      desired.of(putBundle(state, { ...orders, history: [{ [B]: 100 }] }), [runner('r1', 'loading', A)]),
      first,
    );
    const ready = desired.of(state, [runner('r1', 'ready', A)]);
    assert.equal(ready.bundles[0]?.revisions[0]?.ready, 1);
    assert.equal(ready.bundles[1], first.bundles[1]);
    assert.deepEqual(desired.of(EMPTY_REGISTRY, [runner('r1', 'ready', A)]).bundles, []);
  });

  it('says the same as one that knows nothing of before, whatever has happened', () => {
    const name = fc.constantFrom('orders', 'shop', 'constructor');
    const step = fc.record({
      bundle: name,
      live: fc.constantFrom({}, { [A]: 100 }, { [A]: 90, [B]: 10 }),
      draining: fc.constantFrom({}, { [C]: 1 }),
      isGone: fc.boolean(),
      runners: fc.uniqueArray(fc.constantFrom('r1', 'r2', 'r3')),
      held: fc.array(
        fc.record({
          bundle: name,
          revision: fc.constantFrom(A, B),
          state: fc.constantFrom('ready' as const, 'failed' as const, 'loading' as const),
          retryAt: fc.nat(3),
        }),
      ),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
        const desired = new DesiredState();
        let state = EMPTY_REGISTRY;
        for (const { bundle, isGone, runners, held, ...now } of steps) {
          const entry = { ...requireBundle(registryOf(A, B, C), 'orders'), ...now, name: bundle };
          state = isGone ? dropBundle(state, bundle) : putBundle(state, entry);
          const reports = runners.map((id) => ({
            ...runner(id, 'ready'),
            revisions: held.map((each) => ({ ...each, workers: 0, inFlight: 0 })),
          }));
          const { bundles, texts } = desired.of(state, reports);
          assert.deepEqual(bundles, new DesiredState().of(state, reports).bundles);
          assert.deepEqual(
            texts,
            bundles.map((each) => JSON.stringify(each)),
          );
        }
      }),
    );
  });
});
