import { LATENCY_BUCKETS_S, type Metrics } from '../core/metrics.ts';
import type { Operation } from './revision.ts';

/** What Prometheus learns of calls. */
export interface CallMetrics {
  /** One call ended. Without an operation it found no route. */
  observe(operation: Operation | undefined, status: number, durationMs: number): void;
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
