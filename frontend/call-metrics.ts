import type { RpcCounts } from '../core/broker/rpc.ts';
import type { Histogram } from '../core/histogram.ts';
import {
  LATENCY_BUCKETS_S,
  PART_BUCKETS_S,
  type CounterMetric,
  type HistogramMetric,
  type Metrics,
} from '../core/metrics.ts';
import type { Operation } from './revision.ts';
import { PARTS, type CallTiming } from './server-timing.ts';

/** Operations that have series of their own; calls of others count as those of `other`. Prometheus keeps every series. */
const MAX_OPERATIONS = 1_000;
const OTHER = 'other';
const STATUS_CLASSES = [OTHER, '1xx', '2xx', '3xx', '4xx', '5xx'];

/** What Prometheus learns of calls. */
export interface CallMetrics {
  /** One call ended. Without an operation it found no route. */
  observe(operation: Operation | undefined, status: number, timing: CallTiming): void;
}

/** What an `Rpc` counts, as counters; `collect` brings them up to date before they are read. */
export function createRpcMetrics(metrics: Metrics, counts: Readonly<RpcCounts>): { collect(): void } {
  const rows = [
    [counter('funcatron_rpc_calls_total', 'calls published'), 'calls'],
    [counter('funcatron_rpc_batches_total', 'messages that carried them'), 'batches'],
    [counter('funcatron_rpc_late_replies_total', 'replies nobody waited for any more; dropped'), 'lateReplies'],
    [counter('funcatron_rpc_reruns_total', 'calls sent again because the broker lost them'), 'reruns'],
  ] as const;
  const seen: RpcCounts = { calls: 0, batches: 0, lateReplies: 0, reruns: 0 };
  function counter(name: string, help: string): CounterMetric {
    return metrics.counter(name, help, []);
  }
  return {
    collect() {
      for (const [metric, key] of rows) metric.add([], counts[key] - seen[key]);
      Object.assign(seen, counts);
    },
  };
}

/** Histograms by bundle, operation and status class: of whole calls, and of their parts. */
export function createCallMetrics(metrics: Metrics): CallMetrics {
  const labelNames = ['bundle', 'operation', 'status'];
  const families = {
    total: metrics.histogram(
      'funcatron_http_call_seconds',
      'from the request to its answer, by bundle, operation and status class',
      labelNames,
      LATENCY_BUCKETS_S,
    ),
    part: metrics.histogram(
      'funcatron_http_call_part_seconds',
      'the parts of that, as Server-Timing has them; cold only of calls that waited for the start of a worker',
      [...labelNames, 'part'],
      PART_BUCKETS_S,
    ),
  };
  /** By name, so that the revisions of a bundle count together; the other one finds them without making a name. */
  const byName = new Map<string, OperationSeries>();
  const byOperation = new WeakMap<Operation, OperationSeries>();
  const unrouted = new OperationSeries(families, '', '');
  const others = new OperationSeries(families, OTHER, OTHER);

  function seriesOf(operation: Operation): OperationSeries {
    const { revision, spec } = operation;
    const name = `${revision.bundle}.${spec.operationId}`;
    let series = byName.get(name);
    if (series === undefined && byName.size >= MAX_OPERATIONS) series = others;
    if (series === undefined)
      byName.set(name, (series = new OperationSeries(families, revision.bundle, spec.operationId)));
    byOperation.set(operation, series);
    return series;
  }

  return {
    observe(operation, status, timing) {
      const series = operation === undefined ? unrouted : (byOperation.get(operation) ?? seriesOf(operation));
      series.observe(status, timing);
    },
  };
}

interface Families {
  readonly total: HistogramMetric;
  readonly part: HistogramMetric;
}

interface StatusSeries {
  readonly total: Histogram;
  /** In the order of `PARTS`; made when there is something to count. */
  readonly parts: (Histogram | undefined)[];
}

/** The histograms of one operation. */
class OperationSeries {
  readonly #families: Families;
  readonly #bundle: string;
  readonly #operation: string;
  /** By the first digit of the status. */
  readonly #byStatus: (StatusSeries | undefined)[] = [];

  constructor(families: Families, bundle: string, operation: string) {
    this.#families = families;
    this.#bundle = bundle;
    this.#operation = operation;
  }

  observe(status: number, timing: CallTiming): void {
    const digit = Math.floor(status / 100);
    const series = (this.#byStatus[digit] ??= {
      total: this.#families.total.of(this.#labels(digit)),
      parts: PARTS.map(() => undefined),
    });
    series.total.observe((performance.now() - timing.startedAt) / 1000);
    for (let index = 0; index < PARTS.length; index++) {
      const part = PARTS[index] ?? 'frontend';
      const ms = timing.part(part);
      if (ms === undefined || (part === 'cold' && ms === 0)) continue;
      const histogram = (series.parts[index] ??= this.#families.part.of([...this.#labels(digit), part]));
      histogram.observe(ms / 1000);
    }
  }

  #labels(digit: number): readonly string[] {
    return [this.#bundle, this.#operation, STATUS_CLASSES[digit] ?? OTHER];
  }
}
