import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ClusterClock } from '../../../core/clock.ts';
import type { FrontendReport, RunnerReport } from '../../../core/wire/control.ts';
import { parseReport, parseSnapshot } from '../../../core/wire/read-control.ts';
import { DesiredState } from '../../../tron/desired.ts';
import { EMPTY_REGISTRY } from '../../../tron/registry.ts';
import { viewFrontend, viewHolders, viewRunner } from '../../../tron/views.ts';
import { snapshotOf, testBundle } from '../../helpers/live-bundle.ts';

const base = { v: 1, version: '0', hostname: 'h', pid: 1, startedAt: 0, sentAt: 0, epoch: '1.1', stopping: false };
const runner = {
  ...base,
  id: 'r1',
  role: 'runner',
  revisions: [
    {
      bundle: 'orders',
      revision: 'aaaaaaaaaaaa',
      state: 'failed',
      workers: 1,
      bounds: { min: 0, max: 2 },
      restarts: 3,
      inFlight: 0,
      error: { code: 'FUNC_CRASHED', message: 'it died' },
      since: 1,
      retryAt: 2,
    },
  ],
} as RunnerReport;
const frontend = { ...base, id: 'f1', role: 'frontend', url: '', inFlight: { a: 1 }, failures: {} } as FrontendReport;
const snapshot = snapshotOf('1.1', testBundle({ operations: [], host: 'shop.test' }));

const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value) ?? '');

/** The value with one of its members, at any depth, replaced or left out. */
function* spoiled(value: unknown, by: unknown): Generator {
  yield by;
  if (typeof value !== 'object' || value === null) return;
  for (const [key, member] of Object.entries(value)) {
    for (const other of spoiled(member, by)) {
      yield Array.isArray(value) ? value.with(Number(key), other) : { ...value, [key]: other };
    }
  }
}

describe('core/wire/read-control', () => {
  it('takes what roles send', () => {
    for (const report of [runner, frontend]) assert.deepEqual(parseReport(bytes(report)), report);
    assert.deepEqual(parseSnapshot(bytes(snapshot)), snapshot);
  });

  it('takes nothing of another version, and nothing that is not JSON', () => {
    assert.equal(parseReport(bytes({ ...runner, v: 2 })), undefined);
    assert.equal(parseSnapshot(bytes({ ...snapshot, v: 2 })), undefined);
    for (const text of ['', '{', '\u0000', 'null']) {
      assert.equal(parseReport(Buffer.from(text)), undefined);
      assert.equal(parseSnapshot(Buffer.from(text)), undefined);
    }
  });

  it('takes no report that would break whoever acts on it, whatever of it was forged', () => {
    const act = (by: unknown): void => {
      for (const each of [...spoiled(runner, by), ...spoiled(frontend, by)]) {
        const report = parseReport(bytes(each));
        if (report?.role === 'runner') {
          new DesiredState().of(EMPTY_REGISTRY, [report]);
          viewRunner({ ...report, silentMs: 0 });
          viewHolders({ name: 'orders' }, [report]);
        } else if (report?.role === 'frontend') {
          viewFrontend({ ...report, silentMs: 0 });
        }
      }
    };
    for (const by of [undefined, null, 'x', -1, 1e300, [], {}, [null], [{}]]) act(by);
    fc.assert(fc.property(fc.jsonValue(), act), { numRuns: 50 });
  });

  it('takes no snapshot with a member of another kind than it is', () => {
    for (const by of [null, true, [null], [{}], {}]) {
      for (const each of spoiled(snapshot, by)) {
        if (JSON.stringify(each).includes('"weights":{}')) continue; // which is a bundle nothing is live of
        assert.equal(parseSnapshot(bytes(each)), undefined, JSON.stringify(each));
      }
    }
  });

  it('takes no digest that leads out of a folder', () => {
    const forged = snapshotOf('1.1', testBundle({ operations: [], state: { digest: `../../${'a'.repeat(58)}` } }));
    assert.equal(parseSnapshot(bytes(forged)), undefined);
  });

  it('takes no epoch that no leader could go beyond', () => {
    for (const epoch of ['x', '1', '1e3.1', `${'9'.repeat(400)}.1`, '999999999999999.1', `1.${'9'.repeat(20)}`, 1.1]) {
      assert.equal(parseSnapshot(bytes({ ...snapshot, epoch })), undefined, String(epoch));
      assert.equal(parseReport(bytes({ ...runner, epoch })), undefined, String(epoch));
    }
  });

  it('takes no stamp that would put the clocks out', () => {
    const clock = new ClusterClock();
    for (const sentAt of ['x', null, undefined, {}, 1e300]) {
      const read = parseSnapshot(bytes({ ...snapshot, sentAt }));
      if (read !== undefined) clock.observe(read.sentAt);
    }
    assert.equal(clock.offsetMs, 0);
  });
});
