import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Counts up. Labels are values in the order of the names it was made with. */
export interface CounterMetric {
  add(labels: readonly string[], by?: number): void;
}
/** Measures; `observe` takes the unit its name ends in. */
export interface HistogramMetric {
  observe(labels: readonly string[], value: number): void;
}
/** A value as of now. */
export interface GaugeMetric {
  set(labels: readonly string[], value: number): void;
}

/** The metrics of one process, in Prometheus' text format. Labels never hold raw paths: their values come from documents. */
export interface Metrics {
  counter(name: string, help: string, labelNames: readonly string[]): CounterMetric;
  histogram(name: string, help: string, labelNames: readonly string[], buckets: readonly number[]): HistogramMetric;
  gauge(name: string, help: string, labelNames: readonly string[]): GaugeMetric;
  /** All of them, as `text/plain; version=0.0.4`. */
  text(): Promise<string>;
}

/** Seconds; from half a millisecond, because a call over the queue takes about one, to a minute. */
export const LATENCY_BUCKETS_S = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

/** An empty set of metrics with a registry of its own, so that several roles in one process do not collide. */
export function createMetrics(): Metrics {
  const registers = [new Registry()];
  const name = (labelNames: readonly string[], values: readonly string[]): Record<string, string> =>
    Object.fromEntries(labelNames.map((label, index) => [label, values[index] ?? '']));
  return {
    counter(metric, help, labelNames) {
      const counter = new Counter({ name: metric, help, labelNames: [...labelNames], registers });
      return { add: (labels, by = 1) => counter.inc(name(labelNames, labels), by) };
    },
    histogram(metric, help, labelNames, buckets) {
      const histogram = new Histogram({
        name: metric,
        help,
        labelNames: [...labelNames],
        buckets: [...buckets],
        registers,
      });
      return { observe: (labels, value) => histogram.observe(name(labelNames, labels), value) };
    },
    gauge(metric, help, labelNames) {
      const gauge = new Gauge({ name: metric, help, labelNames: [...labelNames], registers });
      return { set: (labels, value) => gauge.set(name(labelNames, labels), value) };
    },
    text: async () => (await Promise.all(registers.map((registry) => registry.metrics()))).join('\n'),
  };
}
