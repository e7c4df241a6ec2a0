import assert from 'node:assert/strict';
import type { FrontendReport, RunnerReport, Snapshot } from '../../../core/wire/control.ts';
import { Roster } from '../../../tron/roster.ts';
import { testBundle } from '../../helpers/live-bundle.ts';

const base = {
  v: 1,
  version: '0',
  hostname: 'h',
  pid: 1,
  startedAt: 0,
  sentAt: 0,
  epoch: '1.1',
  stopping: false,
} as const;
const runner = (id: string, rest: Partial<RunnerReport> = {}): RunnerReport => ({
  ...base,
  id,
  role: 'runner',
  revisions: [],
  ...rest,
});
const frontend = (id: string): FrontendReport => ({
  ...base,
  id,
  role: 'frontend',
  url: '',
  inFlight: {},
  failures: {},
});

describe('tron/roster', () => {
  let now = 0;
  let isHearing = true;
  const open = (before?: Snapshot): Roster =>
    new Roster({ memberLostMs: 10_000, reportMs: 2_000, isHearing: () => isHearing, now: () => now }, before);
  const ids = (roster: Roster): string[] => roster.runners.map(({ id }) => id);
  /** Lets time pass as it does: with sweeps. */
  const pass = (roster: Roster, ms: number): readonly string[] => {
    const lost: string[] = [];
    for (const end = now + ms; now < end; now += 500) lost.push(...roster.sweep());
    return [...lost, ...roster.sweep()];
  };
  beforeEach(() => {
    now = 0;
    isHearing = true;
  });

  it('drops who is silent for memberLostMs, and at once who says it is stopping', () => {
    const roster = open();
    roster.take(runner('r1'));
    roster.take(runner('r2'));
    roster.take(frontend('f1'));
    pass(roster, 9_000);
    roster.take(runner('r2'));
    assert.deepEqual(pass(roster, 2_000), ['r1', 'f1']);
    assert.deepEqual(ids(roster), ['r2']);
    roster.take(runner('r2', { stopping: true }));
    assert.deepEqual(ids(roster), []);
  });

  it('drops nobody for a silence that was its own: no broker, or a paused process', () => {
    const roster = open();
    roster.take(runner('r1'));
    isHearing = false;
    assert.deepEqual(pass(roster, 60_000), []);
    isHearing = true;
    assert.deepEqual(pass(roster, 9_000), []);
    roster.take(runner('r1'));
    now += 3_600_000;
    assert.deepEqual(roster.sweep(), []);
    assert.deepEqual(pass(roster, 11_000), ['r1']);
  });

  it('presumes that members of the leader before live, hold what they held, and count until they are late', () => {
    const { state } = testBundle({ operations: [], state: { runners: ['r1', 'r2'], ready: 2 } });
    const roster = open({ v: 1, epoch: '1.1', sentAt: 0, leader: 't0', bundles: [state] });
    assert.deepEqual(ids(roster), ['r1', 'r2']);
    assert.equal(roster.runners[0]?.revisions[0]?.state, 'ready');
    assert.equal(roster.silentMs('r1'), undefined);
    assert.equal(roster.isSettled, false);
    roster.take(runner('r1'));
    assert.equal(roster.isPresumed('r1'), false);
    assert.equal(roster.isSettled, false);
    pass(roster, 4_500);
    assert.equal(roster.isSettled, true);
    roster.take(runner('r1'));
    assert.deepEqual(pass(roster, 6_000), ['r2']);
  });

  it('is settled as soon as everybody who was presumed has reported', () => {
    const { state } = testBundle({ operations: [], state: { runners: ['r1'] } });
    const roster = open({ v: 1, epoch: '1.1', sentAt: 0, leader: 't0', bundles: [state] });
    roster.take(runner('r1'));
    assert.equal(roster.isSettled, true);
    assert.equal(open().isSettled, true);
  });
});
