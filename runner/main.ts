import { join } from 'node:path';
import { openAdmin } from '../core/admin.ts';
import type { Broker } from '../core/broker/broker.ts';
import type { BundleRecord } from '../core/bundle/manifest.ts';
import { createRepository } from '../core/bundle/repository.ts';
import { ClusterClock } from '../core/clock.ts';
import { type Config, listOf } from '../core/config.ts';
import { TimerWheel } from '../core/deadline.ts';
import { FuncatronError } from '../core/errors.ts';
import { ServiceStack, type Closable } from '../core/lifecycle.ts';
import type { Log } from '../core/log.ts';
import { memberReport, openMembership, type Membership } from '../core/membership.ts';
import type { Store } from '../core/store/store.ts';
import type { HeldRevision, RunnerReport } from '../core/wire/control.ts';
import { Agent } from './agent.ts';
import { loadBundle } from './bundle-cache.ts';
import { CancelledIds, openCancelListener } from './cancels.ts';
import { DirectListener } from './direct/listener.ts';
import { openIdentity } from './identity.ts';
import type { IsolateKind } from './isolate/isolate.ts';
import { createKinds } from './isolate/kinds.ts';
import { LogShipper } from './log-shipper.ts';
import { Replies } from './replies.ts';
import { createRunnerMetrics } from './runner-metrics.ts';
import { fetchPolicyOf } from './services/address-policy.ts';
import { createGuestServices } from './services/guest-services.ts';
import { readSecrets } from './services/secrets.ts';
import { createInvoker } from './services/invoke.ts';
import { EventLeases } from './triggers/event-leases.ts';
import { Forwarder } from './triggers/forwarder.ts';
import { LocalCalls } from './triggers/local-calls.ts';
import { Triggers } from './triggers/triggers.ts';
import { WorkerBudget } from './worker-budget.ts';

export interface RunnerOptions {
  readonly config: Config;
  readonly broker: Broker;
  readonly store: Store;
  readonly log: Log;
  /** Default: the one kept in the data folder. */
  readonly id?: string;
  /** Where all funcs run, whatever their manifests say; default: as they say. */
  readonly isolate?: IsolateKind;
}

export interface Runner extends Closable {
  readonly id: string;
  readonly adminPort: number;
}

/**
 * A runner: holds the revisions the snapshot gives it and answers their calls. Settles once it takes part in the
 * cluster; revisions come up afterwards. `close` drains (protocol §4.6): it stops consuming, gives back what was not
 * started, finishes the rest within `drainMs`, and says goodbye.
 * @throws INVALID_CONFIG when the admin port is taken
 */
export async function openRunner(options: RunnerOptions): Promise<Runner> {
  const { config, broker, store } = options;
  const folder = join(config.dataDir, 'runner');
  const stack = new ServiceStack(config.drainMs + 15_000);
  const identity = stack.push('identity', await openIdentity(folder));
  const id = options.id ?? identity.id;
  const log = options.log.child({ runner: id });
  const startedAt = Date.now();
  const clock = new ClusterClock();
  const wheel = new TimerWheel();
  stack.push('timers', { close: () => Promise.resolve(wheel.close()) });
  const replies = stack.push('replies', new Replies(broker, clock));
  const logs = stack.push('logs', new LogShipper(broker, log));
  const cancelled = new CancelledIds();
  const budget = new WorkerBudget(config.maxWorkers);
  const cache = {
    folder: join(folder, 'bundles'),
    repository: createRepository(store),
    log,
    held: () => new Set(agent.held.map(({ digest }) => digest)),
  };
  const listener = stack.push(
    'direct',
    await DirectListener.open({ host: config.host, port: config.directPort, url: config.directUrl }),
  );
  const policy = fetchPolicyOf(config);
  const secretsDir = config.secretsDir === '' ? join(config.dataDir, 'secrets') : config.secretsDir;
  const kinds = stack.push(
    'isolates',
    createKinds({
      log,
      runtimes: listOf(config.runtimes),
      allowWeakIsolation: config.allowWeakIsolation,
      warmWorkers: config.warmWorkers,
      hidden: [config.dataDir, secretsDir],
    }),
  );
  const { isolate } = options;
  const state = { isDraining: false };
  let membership: Membership | undefined;

  const invoke = createInvoker({
    clock,
    forwarder: stack.push('invoked calls', new Forwarder({ broker, clock, log })),
    local: new LocalCalls(replies),
    maxBodyBytes: config.maxQueueBodyBytes,
    snapshot: () => membership?.snapshot,
    record: (digest) => recordOf(digest),
    dispatchOf: (digest) => agent.held.find((revision) => revision.digest === digest)?.dispatch,
    holding: (callId) => replies.holding(callId),
  });
  const leases = stack.push('events', new EventLeases({ broker, store, log, leaseMs: config.eventLeaseMs }));
  const triggers = new Triggers({
    broker,
    replies,
    leases,
    clock,
    log,
    config,
    onLog: (line) => logs.add({ ...line, runner: id }),
    record: async (digest) => (await loadBundle(cache, digest)).record,
  });
  const agent: Agent = new Agent({
    runner: id,
    onHeld: (snapshot, held) => triggers.reconcile(snapshot, held),
    context: {
      broker,
      replies,
      listener,
      directBytes: config.directThresholdBytes,
      cancelled,
      budget,
      wheel,
      clock,
      log,
      kinds: isolate === undefined ? kinds : { of: () => isolate },
      slotTimeoutMs: config.slotTimeoutMs,
      maxPrefetch: config.maxPrefetch,
      drainMs: config.drainMs,
      load: (digest) => loadBundle(cache, digest),
      services: async (manifest) =>
        createGuestServices(manifest, await readSecrets(secretsDir, manifest), { store, policy, invoke, log }),
      onLog: (bundle, revision, line) => logs.add({ ...line, bundle, revision, runner: id }),
      onChange() {
        agent.changed();
        membership?.reportSoon();
      },
    },
  });
  const metrics = createRunnerMetrics({ replies, listener, budget, events: triggers, held: () => agent.held });

  function unready(): readonly string[] {
    const reasons: string[] = [];
    if (state.isDraining) reasons.push('shutting down');
    if (broker.state !== 'ready') reasons.push(`the message broker is not ready (${broker.state})`);
    if (membership?.snapshot === undefined) reasons.push('no snapshot has arrived yet');
    return reasons;
  }

  function describe(): RunnerReport {
    return {
      ...memberReport({ id, startedAt, epoch: membership?.snapshot?.epoch, stopping: state.isDraining }),
      role: 'runner',
      directUrl: listener.url,
      revisions: agent.describe().map(withEvents),
    };
  }

  function withEvents(held: HeldRevision): HeldRevision {
    const events = leases.running(held.bundle, held.revision);
    return events === undefined ? held : { ...held, events };
  }

  try {
    stack.push('cancels', openCancelListener(broker, id, log, onCancel));
    membership = stack.push(
      'membership',
      await openMembership({
        broker,
        store,
        id,
        clock,
        log,
        describe,
        cacheFile: join(identity.folder, 'snapshot.json'),
        reportMs: config.reportMs,
      }),
    );
    const admin = stack.push(
      'admin',
      await openAdmin({
        host: config.adminHost,
        port: config.adminPort,
        ready: unready,
        metrics: () => metrics.text(),
      }),
    );
    stack.push('calls', {
      async close() {
        state.isDraining = true;
        membership?.reportSoon();
        await Promise.all([triggers.close(), agent.close()]);
      },
    });
    membership.onSnapshot((snapshot) => agent.reconcile(snapshot));
    log.info({ adminPort: admin.port }, 'runner takes part');
    return { id, adminPort: admin.port, close: () => stack.close() };
  } catch (error) {
    await stack.close();
    throw error;
  }

  /** From what is held here where it is, so that the store may be away. */
  async function recordOf(digest: string): Promise<BundleRecord> {
    const held = agent.held.find((revision) => revision.digest === digest)?.record;
    const record = held ?? (await cache.repository.record(digest));
    if (record === undefined) throw new FuncatronError('NOT_FOUND', `the store has no record of digest ${digest}`);
    return record;
  }

  /** A call nobody waits for any more: aborted when it is here, remembered in case it comes. */
  function onCancel(callId: Buffer): void {
    let isHeld = false;
    for (const call of replies.holding(callId)) {
      isHeld = true;
      call.cancel();
    }
    if (!isHeld) cancelled.add(callId);
  }
}
