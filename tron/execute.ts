import { FuncatronError } from '../core/errors.ts';
import { backoffMs } from '../core/deadline.ts';
import { delay } from '../core/lifecycle.ts';
import { deadQueue, eventBinding, eventQueue, RETRY_RUNGS_MS, retryQueue } from '../core/wire/topology.ts';
import { runChange } from './change.ts';
import type { Command, Members, Outcome } from './commands.ts';
import { RouteIndex } from './conflicts.ts';
import { lostLead } from './fenced-key.ts';
import type { Leading } from './leading.ts';
import { startChange, surplusRevisions, type BundleEntry, type Change, type Weights } from './bundle-entry.ts';
import {
  addRevision,
  dropBundle,
  findBundle,
  putBundle,
  requireBundle,
  requireRevision,
  type RegistryState,
} from './registry.ts';
import { watch } from './watch.ts';

/** Carries out commands while this Tron leads, each id once. */
export class Executor {
  readonly #leading: Leading;
  readonly #routes: RouteIndex;
  readonly #running = new Map<string, Promise<Outcome>>();

  constructor(leading: Leading) {
    this.#leading = leading;
    this.#routes = new RouteIndex(leading.repository);
  }

  /**
   * Settles with the command's outcome. A command that came before, here or to the leader before, is joined, not
   * repeated.
   * @throws what it fails with; NO_LEADER when the next leader will finish it
   */
  execute(id: string, command: Command): Promise<Outcome> {
    if (this.#leading.signal.aborted) return Promise.reject(lostLead());
    const known = this.#running.get(id);
    if (known !== undefined) return known;
    const outcome = this.#execute(id, command).finally(() => this.#running.delete(id));
    this.#running.set(id, outcome);
    return outcome;
  }

  /** Goes on with every change the leader before had begun, once the broker is there. */
  resume(): void {
    for (const { name, change } of this.#leading.registry.state.bundles) {
      if (change === undefined) continue;
      this.#leading.log.info({ bundle: name, kind: change.kind, phase: change.phase }, 'going on with a change');
      const outcome = this.#leading.broker
        .ready(this.#leading.signal)
        .then(() => this.#finish(name, change))
        .finally(() => this.#running.delete(change.command));
      this.#running.set(change.command, outcome);
      // Whoever asked hears of a failure when the command comes again; the registry remembers it.
      outcome.catch(() => {});
    }
  }

  async #execute(id: string, command: Command): Promise<Outcome> {
    switch (command.type) {
      case 'deploy':
        return this.#deploy(id, command);
      case 'alias':
        return this.#change(id, command.bundle, 'alias', () => command.weights);
      case 'rollback':
        return this.#change(id, command.bundle, 'rollback', previousOf);
      case 'remove':
        return this.#change(id, command.bundle, 'remove', () => ({}), command.purge);
      case 'scale':
        await this.#leading.registry.updateBundle(command.bundle, (entry) => ({ ...entry, workers: command.workers }));
        await this.#leading.reconciler.apply();
        return {};
      case 'members':
        return { members: this.#members() };
      default:
        throw new FuncatronError('INVALID_REQUEST', `this tron does not know the command ${JSON.stringify(command)}`);
    }
  }

  async #deploy(id: string, command: Extract<Command, { type: 'deploy' }>): Promise<Outcome> {
    const { registry, repository } = this.#leading;
    const record = await repository.record(command.digest);
    if (record === undefined) throw new FuncatronError('NOT_FOUND', `the archive ${command.digest} is not stored`);
    const target = { [record.revision]: 100 };
    // Kept even when it cannot go live: what is in the store is in the list.
    await registry.update(async (before) => {
      const state = addRevision(before, record);
      if (command.goLive && findBundle(before, command.bundle) === undefined) {
        await this.#checkFirst(state, command.bundle, target);
      }
      return state;
    });
    if (!command.goLive) return {};
    return await this.#change(id, command.bundle, 'deploy', () => target);
  }

  /**
   * A bundle nobody knew, whose first routes are another's, is not taken in: it would stay in the list with nothing
   * live. Its archive stays, so that the same command, sent again to the next leader, gets the same answer.
   * @throws ROUTE_CONFLICT
   */
  async #checkFirst(state: RegistryState, name: string, target: Weights): Promise<void> {
    const entry = requireBundle(state, name);
    const change = { command: '', kind: 'deploy', target, startedAt: 0, purge: false } as const;
    await this.#routes.check(putBundle(state, startChange(entry, change)), name);
  }

  async #change(
    id: string,
    name: string,
    kind: Change['kind'],
    targetOf: (bundle: BundleEntry) => Weights,
    purge = false,
  ): Promise<Outcome> {
    const { registry } = this.#leading;
    const last = findBundle(registry.state, name)?.lastChange;
    if (last?.command === id) return repeat(last.error, last.target);
    let change: Change | undefined;
    const state = await registry.update(async (before) => {
      const bundle = requireBundle(before, name);
      const target = targetOf(bundle);
      for (const revision of Object.keys(target)) requireRevision(bundle, revision);
      // What is live already needs no transaction.
      if (kind !== 'remove' && bundle.change === undefined && isSame(target, bundle.live)) return before;
      const entry = startChange(bundle, { command: id, kind, target, startedAt: Date.now(), purge });
      const next = putBundle(before, entry);
      await this.#routes.check(next, name);
      change = entry.change;
      return next;
    });
    if (change === undefined) return { live: requireBundle(state, name).live };
    return this.#finish(name, change);
  }

  async #finish(name: string, change: Change): Promise<Outcome> {
    await runChange(this.#leading, name);
    void this.#prune(name);
    return change.kind === 'remove' ? this.#remove(name, change) : { live: change.target };
  }

  /** The routes are gone; the rest follows when everything has drained, which the caller does not wait for for ever. */
  async #remove(name: string, change: Change): Promise<Outcome> {
    const { registry, limits, signal, log } = this.#leading;
    const draining = (): readonly string[] => Object.keys(findBundle(registry.state, name)?.draining ?? {});
    const sources = [(listener: () => void) => registry.onUpdate(listener)];
    const removed = watch(() => draining().length === 0, { sources, signal }).then(() => this.#delete(name, change));
    removed.catch((error: unknown) => log.warn({ err: error, bundle: name }, 'the bundle is not removed yet'));
    await Promise.race([removed, delay(limits.deployTimeoutMs, signal)]);
    if (signal.aborted) throw lostLead();
    return { draining: draining() };
  }

  /** Deletes revisions nobody can go back to; inside an update, so that none of them becomes wanted meanwhile. */
  async #prune(name: string): Promise<void> {
    const { registry, repository, log } = this.#leading;
    try {
      await registry.update(async (state) => {
        const bundle = findBundle(state, name);
        const surplus = bundle === undefined ? [] : surplusRevisions(bundle);
        if (bundle === undefined || surplus.length === 0) return state;
        for (const { digest } of surplus) await repository.delete(digest);
        return putBundle(state, { ...bundle, revisions: bundle.revisions.filter((entry) => !surplus.includes(entry)) });
      });
    } catch (error) {
      log.warn({ err: error, bundle: name }, 'cannot delete old revisions; the next deploy tries again');
    }
  }

  /** The entry goes last: whoever leads next finds it and deletes what is left. */
  async #delete(name: string, change: Change): Promise<void> {
    const { registry, repository, reconciler, log } = this.#leading;
    const revisions = findBundle(registry.state, name)?.revisions ?? [];
    for (const { digest } of revisions) await this.#insist(() => repository.delete(digest));
    // What is published to it from now on must not pile up where nobody reads.
    await this.#insist(() => this.#leading.broker.unbind(eventBinding(name)));
    if (change.purge) await this.#insist(() => this.#purge(name));
    await registry.update((state) => dropBundle(state, name));
    await reconciler.apply();
    log.info({ bundle: name, purged: change.purge }, 'the bundle is removed');
  }

  async #purge(name: string): Promise<void> {
    const { broker, store } = this.#leading;
    const queues = [eventQueue(name), deadQueue(name), ...RETRY_RUNGS_MS.map((rung) => retryQueue(name, rung))];
    await Promise.all(queues.map((queue) => broker.deleteQueue(queue)));
    const keys = await store.keys(`kv/${name}/`);
    if (keys.length > 0) await store.delete(...keys);
  }

  /** Tries again while this Tron leads. @throws NO_LEADER */
  async #insist(act: () => Promise<void>): Promise<void> {
    const { signal, log } = this.#leading;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await act();
      } catch (error) {
        log.warn({ err: error }, 'cannot delete what belongs to a removed bundle yet, trying again');
        await delay(backoffMs(attempt), signal);
      }
    }
    throw lostLead();
  }

  #members(): Members {
    const { roster } = this.#leading;
    const reported = <R extends { readonly id: string }>(reports: readonly R[]): (R & { silentMs: number })[] =>
      reports.flatMap((report) => {
        const silentMs = roster.silentMs(report.id);
        return silentMs === undefined ? [] : [{ ...report, silentMs: Math.round(silentMs) }];
      });
    return { runners: reported(roster.runners), frontends: reported(roster.frontends) };
  }
}

/** @throws NOT_FOUND */
function previousOf(bundle: BundleEntry): Weights {
  const previous = bundle.history.at(-1);
  if (previous !== undefined) return previous;
  throw new FuncatronError('NOT_FOUND', `bundle ${bundle.name} was never live before what is live now`, {
    data: { hint: 'name a revision: PUT /v1/bundles/{bundle}/aliases/live' },
  });
}

function isSame(a: Weights, b: Weights): boolean {
  const revisions = Object.keys(a);
  return revisions.length === Object.keys(b).length && revisions.every((revision) => a[revision] === b[revision]);
}

function repeat(error: NonNullable<BundleEntry['lastChange']>['error'], live: Weights): Outcome {
  if (error === undefined) return { live };
  throw new FuncatronError(error.code, error.message, { data: error.data });
}
