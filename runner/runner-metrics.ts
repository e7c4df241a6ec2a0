import { createMetrics, PART_BUCKETS_S, type CounterMetric } from '../core/metrics.ts';
import type { Replies } from './replies.ts';
import type { Revision } from './revision.ts';
import type { EventCounts } from './triggers/event-fate.ts';
import type { WorkerBudget } from './worker-budget.ts';

export interface MetricSources {
  readonly replies: Replies;
  readonly listener: { readonly offers: number };
  readonly budget: WorkerBudget;
  readonly events: { readonly counts: ReadonlyMap<string, EventCounts> };
  held(): readonly Revision[];
}

/** What a runner shows on `/metrics`: counted in plain numbers on the hot path, brought here when somebody asks. */
export function createRunnerMetrics(sources: MetricSources): { text(): Promise<string> } {
  const metrics = createMetrics();
  const answers = metrics.counter(
    'funcatron_runner_calls_total',
    'Calls answered by a func, by operation and status class.',
    ['bundle', 'operation', 'status'],
  );
  const other = metrics.counter(
    'funcatron_runner_call_events_total',
    'Calls that were cancelled before their start, expired, arrived redelivered, ran again after a crash, or died in one.',
    ['bundle', 'event'],
  );
  const restarts = metrics.counter(
    'funcatron_runner_worker_restarts_total',
    'Workers that replaced one that died or was retired.',
    ['bundle'],
  );
  const replies = metrics.counter('funcatron_runner_replies_dropped_total', 'Answers nobody could get any more.', [
    'reason',
  ]);
  const events = metrics.counter('funcatron_runner_events_total', 'Events by what became of them.', [
    'bundle',
    'outcome',
  ]);
  const workers = metrics.gauge('funcatron_runner_workers', 'Workers that take calls.', ['bundle', 'revision']);
  const busy = metrics.gauge('funcatron_runner_calls_in_flight', 'Calls held.', ['bundle', 'revision']);
  const exchanges = metrics.gauge(
    'funcatron_runner_direct_exchanges',
    'Bodies on their way between frontends and workers, or waiting for a frontend.',
    ['bundle', 'revision'],
  );
  const offers = metrics.gauge('funcatron_runner_direct_offers', 'Bodies no frontend has come for yet.', []);
  const addresses = metrics.gauge(
    'funcatron_runner_reply_addresses',
    'Where answers go beside reply queues: to bodies on their way, triggers and funcs that called.',
    [],
  );
  const allWorkers = metrics.gauge(
    'funcatron_runner_workers_all',
    'Workers of all bundles, those that start included.',
    [],
  );
  const slotWait = metrics.histogram(
    'funcatron_runner_slot_wait_seconds',
    'From the arrival of a call to its slot in a worker.',
    ['bundle'],
    PART_BUCKETS_S,
  );
  const coldLoad = metrics.histogram(
    'funcatron_runner_cold_load_seconds',
    'What of that was the start of the worker, for calls that waited for one.',
    ['bundle'],
    PART_BUCKETS_S,
  );
  const seen = new WeakMap<object, Map<string, number>>();

  /** Adds what `total` has grown by since the last time it was looked at. */
  function grow(source: object, counter: CounterMetric, labels: readonly string[], total: number): void {
    let totals = seen.get(source);
    if (totals === undefined) seen.set(source, (totals = new Map()));
    const key = labels.join('\0');
    const before = totals.get(key) ?? 0;
    if (total > before) counter.add(labels, total - before);
    totals.set(key, total);
  }

  function read(revision: Revision): void {
    const { bundle, counts } = revision;
    workers.set([bundle, revision.revision], revision.workers);
    busy.set([bundle, revision.revision], revision.inFlight);
    exchanges.set([bundle, revision.revision], revision.exchanges);
    grow(revision, restarts, [bundle], revision.restarts);
    if (counts === undefined) return;
    counts.slotWait.moveTo(slotWait.of([bundle]));
    counts.coldLoad.moveTo(coldLoad.of([bundle]));
    for (const [operation, status, total] of counts.answers())
      grow(counts, answers, [bundle, operation, status], total);
    for (const event of ['cancelled', 'expired', 'redelivered', 'rerun', 'crashed'] as const) {
      grow(counts, other, [bundle, event], counts[event]);
    }
  }

  return {
    text() {
      for (const gauge of [workers, busy, exchanges]) gauge.reset();
      for (const revision of sources.held()) read(revision);
      grow(sources.replies, replies, ['returned'], sources.replies.counts.returned);
      grow(sources.replies, replies, ['lost'], sources.replies.counts.lost);
      for (const [bundle, counts] of sources.events.counts) {
        for (const outcome of ['done', 'retried', 'dead'] as const) {
          grow(counts, events, [bundle, outcome], counts[outcome]);
        }
      }
      allWorkers.set([], sources.budget.taken);
      offers.set([], sources.listener.offers);
      addresses.set([], sources.replies.others);
      return metrics.text();
    },
  };
}
