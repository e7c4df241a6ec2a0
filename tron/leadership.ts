import type { Broker, Consumer, Delivery } from '../core/broker/broker.ts';
import type { Repository } from '../core/bundle/repository.ts';
import { backoffMs } from '../core/deadline.ts';
import { toFuncatronError } from '../core/errors.ts';
import { delay } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import type { Store } from '../core/store/store.ts';
import { StoreKey, type Epoch, type Snapshot } from '../core/wire/control.ts';
import { parseReport } from '../core/wire/read-control.ts';
import { commandTopology, REPORT_QUEUE, reportTopology, stateExchange } from '../core/wire/topology.ts';
import type { Command, Outcome } from './commands.ts';
import { Executor } from './execute.ts';
import { FencedKey } from './fenced-key.ts';
import type { Leading, LeadingLimits } from './leading.ts';
import { receiveCommands } from './forward.ts';
import { Reconciler } from './reconciler.ts';
import { parseRegistry, Registry, REGISTRY_KEY, type RegistryState } from './registry.ts';
import { Retirement } from './retire.ts';
import { Roster } from './roster.ts';

export interface LeadershipOptions {
  readonly id: string;
  readonly broker: Broker;
  readonly store: Store;
  readonly repository: Repository;
  readonly limits: LeadingLimits;
  readonly log: Log;
}

/** The lead, while this Tron has it. */
export interface Leadership {
  readonly roster: Roster;
  /** As it is in the store. */
  readonly registry: RegistryState;
  execute(id: string, command: Command): Promise<Outcome>;
}

/**
 * Leads until the signal aborts: claims a new term, goes on with what the leader before began, then keeps snapshot,
 * roster and commands going. `onReady` gets the lead once commands can be taken.
 * @throws STORE_DOWN or NO_LEADER when the term cannot be claimed or is lost to another leader
 */
export async function lead(
  options: LeadershipOptions,
  outer: AbortSignal,
  onReady: (leadership: Leadership) => void,
): Promise<void> {
  const { id, broker, store, limits, log } = options;
  const over = new AbortController();
  const signal = AbortSignal.any([outer, over.signal]);

  const registryKey = new FencedKey(store, REGISTRY_KEY, signal);
  const snapshotKey = new FencedKey(store, StoreKey.snapshot, signal);
  const before = parseRegistry(await registryKey.load());
  const text = await snapshotKey.load();
  const last = text === undefined ? undefined : (JSON.parse(text) as Snapshot);
  let term = 1 + Math.max(before.term, termOf(last?.epoch ?? '0.0'), Math.floor(Date.now() / 1_000));
  const registry = new Registry(registryKey, before);
  await registry.update((state) => ({ ...state, term }));

  const isHearing = (): boolean => broker.state === 'ready' || broker.state === 'blocked';
  // Members of an in-process broker live and die with its process, and so does this id.
  const isSameCluster = broker.kind === 'amqp' || last?.leader === id;
  const roster = new Roster({ ...limits, isHearing }, isSameCluster ? last : undefined);
  const reconciler = new Reconciler(
    { registry, roster, broker, key: snapshotKey, id, resendMs: limits.snapshotMs, log },
    term,
  );
  const leading: Leading = { ...options, registry, roster, reconciler, signal, retiring: new Map() };
  const retirement = new Retirement(leading);
  const executor = new Executor(leading);

  await reconciler.apply();
  log.info({ term, bundles: before.bundles.length }, 'this tron leads');
  executor.resume();
  onReady({
    roster,
    get registry() {
      return registry.state;
    },
    execute: (commandId, command) => executor.execute(commandId, command),
  });
  const stopWatching = registry.onUpdate(apply);
  try {
    await Promise.all([listen(), tick()]);
  } finally {
    stopWatching();
  }
  log.info({ term }, 'this tron leads no longer');

  /** Makes the snapshot follow; a lead that was lost ends here. */
  function apply(): void {
    reconciler.apply().catch((error: unknown) => {
      if (!signal.aborted) log.warn({ err: error }, 'cannot write the snapshot, so this tron stops leading');
      over.abort();
    });
  }

  function hear({ body }: Delivery): void {
    const report = parseReport(body);
    if (report === undefined) {
      log.warn({ bytes: body.length }, 'a message on the report queue is no report of this version');
      return;
    }
    if (termOf(report.epoch) > term) raiseTerm(termOf(report.epoch) + 1);
    roster.take(report);
    if (report.role === 'runner' || report.stopping) apply();
    retirement.look();
    reconciler.resend(limits.reportMs);
  }

  /** A member acts on a term newer than ours: the store was lost, or put back to an older state. */
  function raiseTerm(next: number): void {
    term = next;
    log.warn({ term: next }, 'a member has seen a newer term than the store, so the term is raised');
    registry
      .update((state) => (state.term < next ? { ...state, term: next } : state))
      .then(
        () => {
          reconciler.raiseTerm(next);
          apply();
        },
        () => over.abort(),
      );
  }

  /** Consumes reports and commands for as long as this Tron leads. */
  async function listen(): Promise<void> {
    let reports: Consumer | undefined;
    let commands: Consumer | undefined;
    for (let attempt = 0; await broker.ready(signal); attempt++) {
      try {
        await broker.declare({ exchanges: [stateExchange] });
        await Promise.all([broker.declare(reportTopology), broker.declare(commandTopology)]);
        reports ??= await broker.consume(REPORT_QUEUE, {}, hear);
        commands ??= await receiveCommands({ broker, execute: executor.execute.bind(executor), log });
        break;
      } catch (error) {
        log.warn({ code: toFuncatronError(error).code, err: error }, 'cannot take reports and commands yet');
        await delay(backoffMs(attempt), signal);
      }
    }
    await untilAborted(signal);
    await Promise.all([reports?.cancel(), commands?.cancel()]);
  }

  /** What time alone brings about: lost members, snapshots sent again, drains that nobody reports on. */
  async function tick(): Promise<void> {
    const tickMs = Math.min(limits.snapshotMs, Math.max(50, Math.min(500, limits.memberLostMs / 10)));
    while (!signal.aborted) {
      await delay(tickMs, signal);
      if (signal.aborted) return;
      const lost = roster.sweep();
      if (lost.length > 0) {
        log.warn({ members: lost }, 'members are silent and were dropped');
        apply();
      }
      retirement.look();
      reconciler.resend(limits.reportMs);
    }
  }
}

function termOf(epoch: Epoch): number {
  return Number(epoch.split('.')[0]);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
