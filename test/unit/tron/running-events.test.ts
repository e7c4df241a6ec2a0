import assert from 'node:assert/strict';
import { parseReport } from '../../../core/wire/read-control.ts';
import type { RunnerReport } from '../../../core/wire/control.ts';
import type { BundleEntry } from '../../../tron/bundle-entry.ts';
import { viewEvents } from '../../../tron/views.ts';

const SINCE = Date.UTC(2026, 0, 2);

function reportOf(id: string, events: unknown): Buffer {
  const held = { revision: '0123456789ab', state: 'ready', workers: 1, inFlight: 1 };
  return Buffer.from(
    JSON.stringify({
      v: 1,
      role: 'runner',
      id,
      version: '1',
      hostname: 'h',
      pid: 1,
      startedAt: 0,
      sentAt: 0,
      epoch: '1.1',
      stopping: false,
      revisions: [
        { bundle: 'shop', ...held, events },
        { bundle: 'other', ...held, events: { running: 9, since: 0 } },
      ],
    }),
  );
}

describe('running events in reports', () => {
  it('are shown with their runner and the start of the oldest', () => {
    const reports = [reportOf('r1', { running: 2, since: SINCE }), reportOf('r2', undefined)].map(
      (body) => parseReport(body) as RunnerReport,
    );
    const bundle: Pick<BundleEntry, 'name'> = { name: 'shop' };
    assert.deepEqual(viewEvents(bundle, reports), [
      { runner: 'r1', revision: '0123456789ab', running: 2, since: '2026-01-02T00:00:00.000Z' },
    ]);
  });

  for (const events of [null, 3, {}, { running: 1 }, { running: -1, since: 0 }, { running: 1, since: 1e300 }]) {
    it(`are not taken as ${JSON.stringify(events)}`, () => {
      assert.equal(parseReport(reportOf('r1', events)), undefined);
    });
  }
});
