import { Counter, Gauge, Registry } from 'prom-client';
import { Histogram } from './histogram.ts';

/** Counts up. Labels are values in the order of the names it was made with. */
export interface CounterMetric {
  add(labels: readonly string[], by?: number): void;
}
/** Measures, in the unit its name ends in. */
export interface HistogramMetric {
  /** The values with these labels; the same object each time. Whoever observes often keeps it. */
  of(labels: readonly string[]): Histogram;
}
/** A value as of now. */
export interface GaugeMetric {
  set(labels: readonly string[], value: number): void;
  /** Forgets every series: those that are not set again are gone. */
  reset(): void;
}

/**
 * The metrics of one process, in Prometheus' text format. Labels never hold raw paths: their values come from documents,
 * and whoever gives them sees to it that they are not too many.
 */
export interface Metrics {
  counter(name: string, help: string, labelNames: readonly string[]): CounterMetric;
  histogram(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]): HistogramMetric;
  gauge(name: string, help: string, labelNames: readonly string[]): GaugeMetric;
  /** All of them, as `text/plain; version=0.0.4`. */
  text(): Promise<string>;
}

/** Seconds; from half a millisecond, because a call over the queue takes about one, to a minute. */
export const LATENCY_BUCKETS_S = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

/** Seconds; for parts of calls, of which there are several series for each of `LATENCY_BUCKETS_S`. */
export const PART_BUCKETS_S = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1, 5, 30] as const;

/** An empty set of metrics with a registry of its own, so that several roles in one process do not collide. */
export function createMetrics(): Metrics {
  const registers = [new Registry()];
  const histograms: HistogramFamily[] = [];
  const name = (labelNames: readonly string[], values: readonly string[]): Record<string, string> =>
    Object.fromEntries(labelNames.map((label, index) => [label, values[index] ?? '']));
  return {
    counter(metric, help, labelNames) {
      const counter = new Counter({ name: metric, help, labelNames: [...labelNames], registers });
      return { add: (labels, by = 1) => counter.inc(name(labelNames, labels), by) };
    },
    histogram(metric, help, labelNames, bounds) {
      const family = new HistogramFamily(metric, help, labelNames, bounds);
      histograms.push(family);
      return family;
    },
    gauge(metric, help, labelNames) {
      const gauge = new Gauge({ name: metric, help, labelNames: [...labelNames], registers });
      return { set: (labels, value) => gauge.set(name(labelNames, labels), value), reset: () => gauge.reset() };
    },
    async text() {
      const rest = await Promise.all(registers.map((registry) => registry.metrics()));
      return [...rest, ...histograms.map((family) => family.text())].join('\n');
    },
  };
}

/**
 * The histograms of one name. prom-client's look their series up by the labels at every value: 580 ns, and a call has
 * seven of them; these take 13 ns, where whoever observes keeps them.
 */
class HistogramFamily implements HistogramMetric {
  readonly #name: string;
  readonly #help: string;
  readonly #labelNames: readonly string[];
  readonly #bounds: readonly number[];
  /** By their labels as they are written. */
  readonly #series = new Map<string, Histogram>();

  constructor(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]) {
    this.#name = name;
    this.#help = help;
    this.#labelNames = labelNames;
    this.#bounds = bounds;
  }

  of(labels: readonly string[]): Histogram {
    const key = this.#labelNames.map((label, index) => `${label}="${escapeLabel(labels[index] ?? '')}"`).join(',');
    let series = this.#series.get(key);
    if (series === undefined) this.#series.set(key, (series = new Histogram(this.#bounds)));
    return series;
  }

  text(): string {
    const name = this.#name;
    const lines = [`# HELP ${name} ${this.#help}`, `# TYPE ${name} histogram`];
    for (const [labels, series] of this.#series) {
      const separator = labels === '' ? '' : ',';
      const cumulated = series.cumulated();
      for (const [index, count] of cumulated.entries()) {
        lines.push(`${name}_bucket{${labels}${separator}le="${this.#bounds[index] ?? '+Inf'}"} ${count}`);
      }
      const braced = labels === '' ? '' : `{${labels}}`;
      lines.push(`${name}_sum${braced} ${series.sum}`, `${name}_count${braced} ${cumulated.at(-1) ?? 0}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

/** Prometheus' text format 0.0.4: a label's value may hold anything but these as they are. */
function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}
