import { FuncatronError, toFuncatronError } from '../core/errors.ts';
import { compareEpochs, type Epoch, type HeldRevision, type RunnerReport } from '../core/wire/control.ts';
import { deadQueue, eventQueue, eventTopology } from '../core/wire/topology.ts';
import type { Leading } from './leading.ts';
import { revisionKey } from './planner.ts';
import { failChange, finishChange, flipChange, type Change } from './bundle-entry.ts';
import { requireBundle } from './registry.ts';
import { watch } from './watch.ts';

/** How long a change waits for a broker that is being connected to, instead of failing at once. */
const CONNECTING_MS = 2_000;

/**
 * Carries out the change a bundle's entry holds, from the phase it is in (a new leader resumes what the one before
 * began): load the target everywhere → flip the routes → every frontend follows. On any failure what was live before
 * is live again.
 * @throws DEPLOY_FAILED with the func's own error, NO_RUNNER, BROKER_DOWN, NO_LEADER (the next leader goes on)
 */
export async function runChange(leading: Leading, name: string): Promise<void> {
  const { registry, reconciler, log } = leading;
  const change = changeOf(leading, name);
  const endsAt = performance.now() + leading.limits.deployTimeoutMs;
  try {
    if (change.phase === 'loading') {
      await load(leading, name, change, endsAt);
      await registry.updateBundle(name, (bundle) => flipChange(bundle, change, Date.now()));
    }
    await follow(leading, name, await reconciler.apply(), endsAt);
    // A removal stays under way until its revisions have drained.
    if (change.kind === 'remove') return;
    await registry.updateBundle(name, (bundle) => finishChange(bundle, change, Date.now()));
    log.info({ bundle: name, kind: change.kind, live: change.target, epoch: reconciler.epoch }, 'the change is live');
  } catch (thrown) {
    const error = toFuncatronError(thrown);
    if (error.code === 'NO_LEADER') throw error;
    log.warn({ bundle: name, kind: change.kind, code: error.code, reason: error.message }, 'the change was taken back');
    await registry.updateBundle(name, (bundle) => failChange(bundle, bundle.change ?? change, Date.now(), error));
    await reconciler.apply();
    throw error;
  }
}

function changeOf(leading: Leading, name: string): Change {
  const { change } = requireBundle(leading.registry.state, name);
  if (change === undefined) throw new FuncatronError('INTERNAL', `no change of bundle ${name} is under way`);
  return change;
}

/** Brings the target's revisions up on every runner, and the bundle's event queues into being beside it. */
async function load(leading: Leading, name: string, change: Change, endsAt: number): Promise<void> {
  const revisions = Object.keys(change.target);
  if (revisions.length === 0) return;
  const { broker, reconciler, retiring } = leading;
  await broker.ready(AbortSignal.any([leading.signal, AbortSignal.timeout(CONNECTING_MS)]));
  for (const revision of revisions) await retiring.get(revisionKey(name, revision));
  const epoch = await reconciler.apply();
  try {
    await Promise.all([broker.declare(eventTopology(name)), loaded(leading, name, revisions, epoch, endsAt)]);
  } finally {
    // Durable, and the runners' from now on: declaring them at a reconnect would bring a purged bundle's queues back.
    broker.forget([eventQueue(name), deadQueue(name)]);
  }
}

async function loaded(
  leading: Leading,
  bundle: string,
  revisions: readonly string[],
  epoch: Epoch,
  endsAt: number,
): Promise<void> {
  const { roster, limits, signal } = leading;
  // A runner that lives has reported by then.
  const noRunnerAt = performance.now() + limits.memberLostMs;
  const waitsFor = (runner: RunnerReport): boolean =>
    compareEpochs(runner.epoch, epoch) < 0 || !revisions.every((revision) => isReady(runner, bundle, revision));
  const isLoaded = (): boolean => {
    const runners = roster.runners.filter((runner) => !roster.isPresumed(runner.id));
    if (runners.length === 0 && performance.now() > noRunnerAt) throw noRunner(bundle, limits.memberLostMs);
    return roster.isSettled && runners.length > 0 && !runners.some(waitsFor);
  };
  const timeoutMs = endsAt - performance.now();
  if (await watch(isLoaded, { sources: [(listener) => roster.onChange(listener)], timeoutMs, signal })) return;
  if (roster.runners.length === 0) throw noRunner(bundle, limits.deployTimeoutMs);
  const missing = roster.runners.filter(waitsFor).map((runner) => runner.id);
  throw new FuncatronError(
    'DEPLOY_FAILED',
    `${bundle}@${revisions.join(', ')} was not ready within ${limits.deployTimeoutMs} ms on ${missing.join(', ')}`,
    { data: { runners: missing, hint: 'look at the log of these runners; --deploy-timeout-ms gives them longer' } },
  );

  /** Reports from before `epoch` speak of an earlier attempt. */
  function isReady(runner: RunnerReport, name: string, revision: string): boolean {
    const held = runner.revisions.find((entry) => entry.bundle === name && entry.revision === revision);
    if (held?.state === 'failed') throw notLoaded(name, revision, runner.id, held.error);
    return held?.state === 'ready';
  }
}

function notLoaded(bundle: string, revision: string, runner: string, error: HeldRevision['error']): FuncatronError {
  const why = error?.message ?? 'it gave no reason';
  const hint = error?.hint ?? (isOfBundle(error) ? mend(bundle) : `look at the log of runner ${runner}`);
  return new FuncatronError('DEPLOY_FAILED', `${bundle}@${revision} did not come up: ${why}`, {
    data: { runner, ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }), hint },
  });
}

function mend(bundle: string): string {
  return `mend the bundle and deploy it again; \`funcatron logs ${bundle}\` has what its code wrote`;
}

/** What else keeps a revision from coming up is the matter of whoever runs the runner: its isolate, its broker, its store. */
function isOfBundle(error: HeldRevision['error']): boolean {
  return error === undefined || ['DEPLOY_FAILED', 'FUNC_CRASHED', 'INVALID_BUNDLE'].includes(error.code);
}

function noRunner(bundle: string, waitedMs: number): FuncatronError {
  return new FuncatronError('NO_RUNNER', `no runner reported within ${waitedMs} ms, so ${bundle} has nowhere to run`, {
    data: { retryAfterS: 5, hint: 'start one with `funcatron runner`, on the same broker and store as this tron' },
  });
}

/** Waits until every frontend acts on `epoch`; no frontends are fine. */
async function follow(leading: Leading, bundle: string, epoch: Epoch, endsAt: number): Promise<void> {
  const { roster, limits, signal } = leading;
  const follows = (): boolean => {
    const late = roster.frontends.filter((frontend) => compareEpochs(frontend.epoch, epoch) < 0);
    for (const frontend of roster.frontends) {
      if (late.includes(frontend) || !Object.hasOwn(frontend.failures, bundle)) continue;
      const why = frontend.failures[bundle] ?? '';
      throw new FuncatronError('DEPLOY_FAILED', `frontend ${frontend.id} cannot route ${bundle}: ${why}`, {
        data: {
          frontend: frontend.id,
          hint: `look at the log of frontend ${frontend.id}, and whether it reaches the store`,
        },
      });
    }
    return roster.isSettled && late.length === 0;
  };
  const timeoutMs = endsAt - performance.now();
  if (await watch(follows, { sources: [(listener) => roster.onChange(listener)], timeoutMs, signal })) return;
  const late = roster.frontends.filter((frontend) => compareEpochs(frontend.epoch, epoch) < 0).map(({ id }) => id);
  throw new FuncatronError(
    'DEPLOY_FAILED',
    `the new routes of ${bundle} were not taken within ${limits.deployTimeoutMs} ms by ${late.join(', ')}`,
    { data: { frontends: late, hint: 'look at the log of these frontends' } },
  );
}
