import { LATENCY_BUCKETS_S, type CounterMetric, type Metrics } from '../core/metrics.ts';
import type { RpcCounts } from '../core/broker/rpc.ts';
import type { Operation } from './revision.ts';

/** What Prometheus learns of calls. */
export interface CallMetrics {
  /** One call ended. Without an operation it found no route. */
  observe(operation: Operation | undefined, status: number, durationMs: number): void;
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

/** A histogram by bundle, operation and status class. */
export function createCallMetrics(metrics: Metrics): CallMetrics {
  const seconds = metrics.histogram(
    'funcatron_http_call_seconds',
    'from the request to its answer, by bundle, operation and status class',
    ['bundle', 'operation', 'status'],
    LATENCY_BUCKETS_S,
  );
  return {
    observe(operation, status, durationMs) {
      const statusClass = STATUS_CLASSES[Math.floor(status / 100)] ?? 'other';
      seconds.observe(
        [operation?.revision.bundle ?? '', operation?.spec.operationId ?? '', statusClass],
        durationMs / 1000,
      );
    },
  };
}

const STATUS_CLASSES = ['other', '1xx', '2xx', '3xx', '4xx', '5xx'];
