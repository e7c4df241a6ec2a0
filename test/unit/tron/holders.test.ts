import assert from 'node:assert/strict';
import type { RunnerReport } from '../../../core/wire/control.ts';
import { viewHolders } from '../../../tron/views.ts';

const held = { bundle: 'shop', revision: '0123456789ab', state: 'ready', workers: 0, inFlight: 0 } as const;
const SINCE = Date.UTC(2026, 0, 2);

function runner(id: string, ...revisions: RunnerReport['revisions']): RunnerReport {
  const member = { v: 1, id, version: '1', hostname: 'h', pid: 1, startedAt: 0, sentAt: 0, stopping: false } as const;
  return { ...member, role: 'runner', epoch: '1.1', revisions };
}

describe('tron/views: what runners hold', () => {
  it('are the workers of the bundle on each runner, and how many there may be', () => {
    const reports = [
      runner('r1', { ...held, bounds: { min: 0, max: 2 }, restarts: 1 }, { ...held, bundle: 'other' }),
      runner('r2', { ...held, revision: 'ba9876543210', workers: 2, bounds: { min: 1, max: 2 }, inFlight: 7 }),
      runner('r3'),
    ];
    const { bundle: _bundle, ...shown } = held;
    assert.deepEqual(viewHolders({ name: 'shop' }, reports), [
      { runner: 'r1', ...shown, bounds: { min: 0, max: 2 }, restarts: 1 },
      { runner: 'r2', ...shown, revision: 'ba9876543210', workers: 2, bounds: { min: 1, max: 2 }, inFlight: 7 },
    ]);
  });

  it('are shown without counts where an older runner reports none', () => {
    const { bundle: _bundle, ...shown } = held;
    assert.deepEqual(viewHolders({ name: 'shop' }, [runner('old', held)]), [{ runner: 'old', ...shown }]);
  });

  it('say why, since when and until when a runner is in quarantine', () => {
    const error = { code: 'FUNC_CRASHED', message: 'the worker died' };
    const failed = { ...held, state: 'failed', error, since: SINCE, retryAt: SINCE + 1_000 } as const;
    const [view] = viewHolders({ name: 'shop' }, [runner('r1', failed)]);
    assert.deepEqual(view?.['error'], error);
    assert.equal(view['since'], '2026-01-02T00:00:00.000Z');
    assert.equal(view['retryAt'], '2026-01-02T00:00:01.000Z');
  });
});
